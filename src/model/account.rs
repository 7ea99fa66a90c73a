//! The account of an `exec` or a copy: each attribute that the result lacks, has by a guess, or has in
//! another form, and each file that was left out. The code that applies an attribute makes the entry.
//! Warnings and `-v` print it, and with `--strict` it is the error, so that nothing is lost without an
//! entry. Texts are raw: the printer escapes them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How an attribute deviates from the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deviation {
    /// It could not be applied.
    Lost,
    /// It is not recorded and was derived from other facts.
    Guessed,
    /// It was applied in another form.
    Changed,
    /// It was left out on purpose.
    Skipped,
    /// It failed while the rest was done; the exit status reports it.
    Failed,
}

impl Deviation {
    /// Returns the deviation in words, after the attribute.
    fn words(self) -> &'static str {
        match self {
            Self::Lost => "not applied",
            Self::Guessed => "guessed",
            Self::Changed => "changed",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// One attribute that deviates, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountEntry {
    /// The attribute, in words.
    pub attribute: String,
    /// How it deviates.
    pub deviation: Deviation,
    /// The reason.
    pub cause: String,
    /// Advice.
    pub hint: Option<String>,
    /// The whole sentence, where that is about one of many files: entries are counted by attribute.
    pub sentence: Option<String>,
}

impl AccountEntry {
    /// Creates an entry for an attribute that could not be applied.
    pub fn lost(attribute: impl Into<String>, cause: impl Into<String>) -> Self {
        let (attribute, cause) = (attribute.into(), cause.into());
        Self { attribute, deviation: Deviation::Lost, cause, hint: None, sentence: None }
    }

    /// Creates an entry for an attribute that was guessed.
    pub fn guessed(attribute: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { deviation: Deviation::Guessed, ..Self::lost(attribute, cause) }
    }

    /// Creates an entry for an attribute that was applied in another form.
    pub fn changed(attribute: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { deviation: Deviation::Changed, ..Self::lost(attribute, cause) }
    }

    /// Creates an entry of a file: with the kind of deviation that it is counted by, and a sentence.
    pub fn of_file(deviation: Deviation, attribute: &str, sentence: String) -> Self {
        let (attribute, cause) = (attribute.to_owned(), String::new());
        Self { attribute, deviation, cause, hint: None, sentence: Some(sentence) }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The text of the warning.
impl fmt::Display for AccountEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sentence {
            Some(sentence) => f.write_str(sentence),
            None => write!(f, "{} {}: {}", self.attribute, self.deviation.words(), self.cause),
        }
    }
}

/// The entries with one attribute and kind of deviation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountGroup {
    /// The first of them.
    pub first: AccountEntry,
    /// The number of them.
    pub count: u64,
}

impl AccountGroup {
    /// Returns a line about the entries after the first; none if that is the only one.
    pub fn others(&self) -> Option<String> {
        let others = self.count.checked_sub(1).filter(|others| *others > 0)?;
        let AccountEntry { attribute, deviation, .. } = &self.first;
        Some(format!("{others} more: {attribute} {} (`-v` lists them)", deviation.words()))
    }
}

/// The entries of one action, and whether an entry makes it fail.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Account {
    is_strict: bool,
    groups: Vec<AccountGroup>,
}

impl Account {
    /// Creates an empty account.
    pub fn new(is_strict: bool) -> Self {
        Self { is_strict, groups: Vec::new() }
    }

    /// Adds an entry; returns whether it is the first of its group.
    ///
    /// # Errors
    /// With `--strict`: the entry itself, for the error.
    pub fn add(&mut self, entry: &AccountEntry) -> Result<bool, AccountEntry> {
        if self.is_strict {
            return Err(entry.clone());
        }
        let is_same = |group: &&mut AccountGroup| {
            let first = &group.first;
            (first.deviation, &first.attribute) == (entry.deviation, &entry.attribute)
        };
        if let Some(group) = self.groups.iter_mut().find(is_same) {
            group.count += 1;
            return Ok(false);
        }
        self.groups.push(AccountGroup { first: entry.clone(), count: 1 });
        Ok(true)
    }

    /// Returns the groups, in the order of their first entries.
    pub fn groups(&self) -> &[AccountGroup] {
        &self.groups
    }

    /// Whether something failed.
    pub fn has_failures(&self) -> bool {
        self.groups.iter().any(|group| group.first.deviation == Deviation::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_warning_or_with_strict_an_error() {
        let entry = AccountEntry::guessed("environment", "not recorded");
        assert_eq!(entry.to_string(), "environment guessed: not recorded");
        assert_eq!(Account::new(false).add(&entry), Ok(true));
        assert_eq!(Account::new(true).add(&entry), Err(entry));
    }

    #[test]
    fn entries_are_counted_by_attribute_and_deviation() {
        let mut account = Account::default();
        let lost = |text: &str| AccountEntry::of_file(Deviation::Lost, "owner", text.into());
        assert_eq!(account.add(&lost("of `a`")), Ok(true));
        assert_eq!(account.add(&lost("of `b`")), Ok(false));
        assert_eq!(account.add(&AccountEntry::guessed("owner", "no ID")), Ok(true));
        let others: Vec<_> = account.groups().iter().map(AccountGroup::others).collect();
        assert_eq!(others, [Some("1 more: owner not applied (`-v` lists them)".into()), None]);
        assert_eq!(account.groups()[0].first.to_string(), "of `a`");
        assert!(!account.has_failures());
        let failed = AccountEntry::of_file(Deviation::Failed, "file", "`d`".into());
        assert!(account.add(&failed).is_ok() && account.has_failures());
    }
}
