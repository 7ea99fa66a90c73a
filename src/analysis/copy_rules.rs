//! Where a copy goes: `docker cp`'s rules by the kinds of source and destination, as one table; and
//! the patterns of file names. Pure.
//!
//! Patterns are translated for `regex::bytes`, which matches in linear time. `globset` takes a pattern
//! as `str`, and names in a container need not be UTF-8.

use regex::bytes::{Regex, RegexBuilder};

/// The kind of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A file, or a symlink that is copied as one.
    File,
    /// A directory.
    Directory,
    /// The contents of a directory: the path ended in `/.`.
    Contents,
}

/// The state of the destination before the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DestinationKind {
    /// It does not exist; the path does not end in a slash.
    Missing,
    /// It does not exist; the path ends in a slash.
    MissingDirectory,
    /// A file, or anything else that is not a directory.
    File,
    /// The same; the path ends in a slash, as only that of a directory does.
    FileAsDirectory,
    /// A directory.
    Directory,
}

/// The place of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The destination path itself.
    Exact,
    /// In the destination directory, under the source's name.
    Into,
    /// The contents of the source go into the destination directory.
    Merge,
}

/// The reason why a copy is refused, and a hint.
pub type RuleError = (&'static str, &'static str);

const NO_DIRECTORY: RuleError =
    ("no such directory", "create it first, or leave out the slash to copy to a file of that name");
const NOT_DIRECTORY: RuleError =
    ("not a directory", "a directory can be copied into a directory or to a new name");
const SLASH_AFTER_FILE: RuleError =
    ("Not a directory", "remove the slash or `/.` after the file's name");
const SEVERAL_SOURCES: RuleError =
    ("with several sources the destination must be an existing directory", "create it first");
const NO_RULE: RuleError = ("no rule for this kind of source", "copy it to a new name");

/// THE TABLE of `docker cp`: the place of the copy, or why it is refused.
pub const RULES: &[(SourceKind, DestinationKind, Result<Placement, RuleError>)] = &[
    (SourceKind::File, DestinationKind::Missing, Ok(Placement::Exact)),
    (SourceKind::File, DestinationKind::MissingDirectory, Err(NO_DIRECTORY)),
    (SourceKind::File, DestinationKind::File, Ok(Placement::Exact)),
    (SourceKind::File, DestinationKind::FileAsDirectory, Err(SLASH_AFTER_FILE)),
    (SourceKind::File, DestinationKind::Directory, Ok(Placement::Into)),
    (SourceKind::Directory, DestinationKind::Missing, Ok(Placement::Exact)),
    (SourceKind::Directory, DestinationKind::MissingDirectory, Ok(Placement::Exact)),
    (SourceKind::Directory, DestinationKind::File, Err(NOT_DIRECTORY)),
    (SourceKind::Directory, DestinationKind::FileAsDirectory, Err(SLASH_AFTER_FILE)),
    (SourceKind::Directory, DestinationKind::Directory, Ok(Placement::Into)),
    (SourceKind::Contents, DestinationKind::Missing, Ok(Placement::Exact)),
    (SourceKind::Contents, DestinationKind::MissingDirectory, Ok(Placement::Exact)),
    (SourceKind::Contents, DestinationKind::File, Err(NOT_DIRECTORY)),
    (SourceKind::Contents, DestinationKind::FileAsDirectory, Err(SLASH_AFTER_FILE)),
    (SourceKind::Contents, DestinationKind::Directory, Ok(Placement::Merge)),
];

/// Returns where the table puts a source. Several sources need a directory.
///
/// # Errors
/// The table refuses it.
pub fn placement(
    source: SourceKind,
    destination: DestinationKind,
    several: bool,
) -> Result<Placement, RuleError> {
    if several && destination != DestinationKind::Directory {
        return Err(SEVERAL_SOURCES);
    }
    let rule = RULES.iter().find(|(from, to, _)| (*from, *to) == (source, destination));
    rule.map_or(Err(NO_RULE), |(_, _, placement)| *placement)
}

/// Returns the table in words, for the manual: each case and its result.
pub fn describe_rules() -> Vec<(String, &'static str)> {
    let source = |kind| match kind {
        SourceKind::File => "SRC is a file or symlink",
        SourceKind::Directory => "SRC is a directory",
        SourceKind::Contents => "SRC is a directory ending in /.",
    };
    let destination = |kind| match kind {
        DestinationKind::Missing => "DST does not exist",
        DestinationKind::MissingDirectory => "DST, ending in /, does not exist",
        DestinationKind::File => "DST is a file",
        DestinationKind::FileAsDirectory => "DST, ending in / or /., is a file",
        DestinationKind::Directory => "DST is a directory",
    };
    let result = |source, destination, placement| match placement {
        Ok(Placement::Exact) if source != SourceKind::File => {
            "DST is created, and the contents of SRC are copied into it."
        }
        Ok(Placement::Exact) if destination == DestinationKind::File => "DST is replaced by SRC.",
        Ok(Placement::Exact) => "SRC is copied to DST.",
        Ok(Placement::Into) => "SRC is copied into DST under its own name.",
        Ok(Placement::Merge) => "The contents of SRC are copied into DST.",
        Err(NO_DIRECTORY) => "Error: no such directory.",
        Err(SLASH_AFTER_FILE) => "Error: not a directory.",
        Err(_) => "Error: a directory cannot be copied to a file.",
    };
    let rule = |(from, to, placement): &(_, _, _)| {
        (format!("{} and {}", source(*from), destination(*to)), result(*from, *to, *placement))
    };
    RULES.iter().map(rule).collect()
}

/// Returns the file name of a path, without a slash or `/.` at its end; none for a root. `..` takes back
/// the name before it, as the text has it.
pub fn file_name(path: &[u8]) -> Option<&[u8]> {
    let mut names: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".") {
        match (part, names.last()) {
            (b"..", Some(&last)) if last != b".." => drop(names.pop()),
            _ => names.push(part),
        }
    }
    names.pop().filter(|name| *name != b"..")
}

/// Whether a path ends in `/.`, or is one dot: the contents of the directory are meant.
pub fn is_contents(path: &[u8]) -> bool {
    path == b"." || path.ends_with(b"/.")
}

/// Whether a path can only be that of a directory: it ends in a slash or `/.`.
pub fn is_directory_path(path: &[u8]) -> bool {
    path.ends_with(b"/") || is_contents(path)
}

/// Whether a name has a character that a shell would expand.
pub fn is_pattern(name: &[u8]) -> bool {
    name.iter().any(|b| b"*?[".contains(b))
}

/// A pattern of `*`, `?`, `[a-z]`, `[!a-z]` and `\` before any of them (glob(7)), for one file name.
#[derive(Clone, Debug)]
pub struct NamePattern {
    /// The whole name; none for a pattern that is too long to compile, which no name matches.
    regex: Option<Regex>,
    /// Whether it begins with a dot: only then does it match a name that does.
    has_dot: bool,
}

impl NamePattern {
    /// Compiles a pattern.
    pub fn new(pattern: &[u8]) -> Self {
        let regex = RegexBuilder::new(&translate(pattern)).unicode(false).build().ok();
        Self { regex, has_dot: pattern.starts_with(b".") }
    }

    /// Whether a name matches.
    pub fn matches(&self, name: &[u8]) -> bool {
        (self.has_dot || !name.starts_with(b"."))
            && self.regex.as_ref().is_some_and(|regex| regex.is_match(name))
    }
}

/// Translates a glob(7) pattern to a regular expression over bytes.
fn translate(pattern: &[u8]) -> String {
    let literal = |byte: u8| format!(r"\x{byte:02x}");
    let mut regex = String::from(r"(?s)\A");
    let mut rest = pattern;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'*', _) => regex.push_str(".*"),
            (b'?', _) => regex.push('.'),
            (b'\\', [quoted, after @ ..]) => {
                regex.push_str(&literal(*quoted));
                rest = after;
            }
            (b'[', _) => match split_set(tail) {
                Some((negated, set, after)) => {
                    regex.push_str(&byte_class(negated, set));
                    rest = after;
                }
                None => regex.push_str(&literal(b'[')),
            },
            (byte, _) => regex.push_str(&literal(*byte)),
        }
    }
    regex + r"\z"
}

/// Splits the text after `[` into whether the set is negated, the set and the rest. None without a `]`:
/// the bracket is then literal. A `]` that comes first is in the set.
fn split_set(text: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let negated = matches!(text.first(), Some(b'!' | b'^'));
    let set = &text[usize::from(negated)..];
    let end = set.iter().skip(1).position(|b| *b == b']')? + 1;
    Some((negated, &set[..end], &set[end + 1..]))
}

fn byte_class(negated: bool, mut set: &[u8]) -> String {
    let mut class = String::from(if negated { "[^" } else { "[" });
    let mut is_empty = true;
    while let [first, tail @ ..] = set {
        let (last, after) = match tail {
            [b'-', last, after @ ..] => (last, after),
            _ => (first, tail),
        };
        // A range that runs backwards is empty.
        if first <= last {
            class += &format!(r"\x{first:02x}-\x{last:02x}");
            is_empty = false;
        }
        set = after;
    }
    match (is_empty, negated) {
        (false, _) => class + "]",
        (true, false) => r"[^\x00-\xff]".into(),
        (true, true) => ".".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_copies_as_docker_cp_does() {
        use DestinationKind::{Missing, MissingDirectory};
        use SourceKind::{Contents, Directory, File};
        for (source, destination, expected) in [
            (File, Missing, Some(Placement::Exact)),
            (File, MissingDirectory, None),
            (File, DestinationKind::File, Some(Placement::Exact)),
            (File, DestinationKind::FileAsDirectory, None),
            (File, DestinationKind::Directory, Some(Placement::Into)),
            (Directory, Missing, Some(Placement::Exact)),
            (Directory, MissingDirectory, Some(Placement::Exact)),
            (Directory, DestinationKind::File, None),
            (Directory, DestinationKind::Directory, Some(Placement::Into)),
            (Contents, Missing, Some(Placement::Exact)),
            (Contents, MissingDirectory, Some(Placement::Exact)),
            (Contents, DestinationKind::File, None),
            (Contents, DestinationKind::Directory, Some(Placement::Merge)),
        ] {
            let actual = placement(source, destination, false).ok();
            assert_eq!(actual, expected, "{source:?} to {destination:?}");
        }
        assert!(placement(File, DestinationKind::File, true).is_err());
        assert_eq!(placement(File, DestinationKind::Directory, true), Ok(Placement::Into));
    }

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, matching, other) in [
            ("*.log", "a.log", "a.txt"),
            ("a?c", "abc", "ac"),
            ("[a-c]x", "bx", "dx"),
            ("[!a-c]x", "dx", "bx"),
            ("[^a-c]x", "dx", "bx"),
            ("[]]", "]", "a"),
            ("[a-]", "-", "b"),
            ("[]^a]", "^", "b"),
            ("\\*", "*", "a"),
            ("*a*b*c", "xaxbxc", "xaxbx"),
            (".*", ".x", "x"),
            ("*", "x", ".x"),
            ("[", "[", "a"),
            ("[z-ac]", "c", "b"),
            ("a.c", "a.c", "abc"),
            ("*", "new\nline", ".new\nline"),
        ] {
            let compiled = NamePattern::new(pattern.as_bytes());
            assert!(compiled.matches(matching.as_bytes()), "{matching} {pattern}");
            assert!(!compiled.matches(other.as_bytes()), "{other} {pattern}");
        }
        assert!(!NamePattern::new(b"[z-a]").matches(b"m"));
        assert!(NamePattern::new(b"?\xff*").matches(b"\xfe\xff"));
        assert!(!NamePattern::new(b"*a*a*a*a*a*a*a*b").matches("a".repeat(5000).as_bytes()));
    }

    #[test]
    fn file_names_have_no_slash_or_dot() {
        assert_eq!(file_name(b"/a/b/"), Some(&b"b"[..]));
        assert_eq!(file_name(b"/a/b/."), Some(&b"b"[..]));
        assert_eq!(file_name(b"/"), None);
        assert_eq!(file_name(b"/a/b/.."), Some(&b"a"[..]));
        assert_eq!(
            (file_name(b"/a/.."), file_name(b"../.."), file_name(b"..")),
            (None, None, None)
        );
        assert!(is_contents(b"/a/.") && !is_contents(b"a."));
    }

    proptest! {
        #[test]
        fn a_quoted_name_matches_itself_alone(name in prop::collection::vec(any::<u8>(), 1..12), other: Vec<u8>) {
            let quoted: Vec<u8> = name.iter().flat_map(|byte| [b'\\', *byte]).collect();
            let pattern = NamePattern::new(&quoted);
            prop_assert_eq!(pattern.matches(&name), !name.starts_with(b"."));
            prop_assert_eq!(pattern.matches(&other) && other != name, false);
        }

        #[test]
        fn every_pattern_compiles(pattern in prop::collection::vec(prop_oneof![Just(b'['), Just(b']'), Just(b'-'), Just(b'!'), any::<u8>()], 0..20)) {
            prop_assert!(NamePattern::new(&pattern).regex.is_some());
        }
    }
}
