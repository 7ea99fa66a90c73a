//! The account of an `exec` or a copy: each attribute that the result lacks, has by a guess, or has in
//! another form. The code that applies an attribute makes the entry. Warnings and `-v` print it, and with
//! `--strict` it is the error, so that nothing is lost without an entry.

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
}

impl AccountEntry {
    /// Creates an entry for an attribute that could not be applied.
    pub fn lost(attribute: impl Into<String>, cause: impl Into<String>) -> Self {
        let (attribute, cause) = (attribute.into(), cause.into());
        Self { attribute, deviation: Deviation::Lost, cause, hint: None }
    }

    /// Creates an entry for an attribute that was guessed.
    pub fn guessed(attribute: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { deviation: Deviation::Guessed, ..Self::lost(attribute, cause) }
    }

    /// Creates an entry for an attribute that was applied in another form.
    pub fn changed(attribute: impl Into<String>, cause: impl Into<String>) -> Self {
        Self { deviation: Deviation::Changed, ..Self::lost(attribute, cause) }
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
        let verb = match self.deviation {
            Deviation::Lost => "not applied",
            Deviation::Guessed => "guessed",
            Deviation::Changed => "changed",
        };
        write!(f, "{} {verb}: {}", self.attribute, self.cause)
    }
}

/// The entries of one action, and whether an entry makes it fail.
#[derive(Clone, Debug, Default)]
pub struct Account {
    is_strict: bool,
    entries: Vec<AccountEntry>,
}

impl Account {
    /// Creates an empty account.
    pub fn new(is_strict: bool) -> Self {
        Self { is_strict, entries: Vec::new() }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// With `--strict`: the entry itself, for the error.
    pub fn add(&mut self, entry: AccountEntry) -> Result<&AccountEntry, AccountEntry> {
        if self.is_strict {
            return Err(entry);
        }
        let index = self.entries.len();
        self.entries.push(entry);
        Ok(&self.entries[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_warning_or_with_strict_an_error() {
        let entry = AccountEntry::guessed("environment", "not recorded");
        assert_eq!(entry.to_string(), "environment guessed: not recorded");
        assert_eq!(Account::new(false).add(entry.clone()), Ok(&entry));
        assert_eq!(Account::new(true).add(entry.clone()), Err(entry));
    }
}
