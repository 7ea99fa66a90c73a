//! Where a copy goes: `docker cp`'s rules about what exists and what ends in a slash, as one table.
//! Pure.

/// What is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A file, or a link that is copied as such.
    File,
    /// A folder.
    Folder,
    /// What is in a folder: its name ended in `/.`.
    Contents,
}

/// What there is where it is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// Nothing; the name did not end in a slash.
    Missing,
    /// Nothing; it did.
    MissingFolder,
    /// A file, or anything else that is no folder.
    File,
    /// A folder.
    Folder,
}

/// Where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// To that name itself.
    There,
    /// Into the folder, under its own name.
    Into,
    /// What is in it goes into the folder.
    Merged,
}

/// Why it does not go there, and what would.
pub type RuleError = (&'static str, &'static str);

const NO_FOLDER: RuleError =
    ("there is no such folder", "make it first; without the slash that is the file's new name");
const IS_FILE: RuleError = ("it is no folder", "give a folder that is there, or a new name");
const ONE_TARGET: RuleError =
    ("several sources need a folder that exists", "make it first, and give its name last");

/// THE TABLE of `docker cp`: what goes where, or why not.
pub const RULES: &[(SourceKind, TargetKind, Result<Placement, RuleError>)] = &[
    (SourceKind::File, TargetKind::Missing, Ok(Placement::There)),
    (SourceKind::File, TargetKind::MissingFolder, Err(NO_FOLDER)),
    (SourceKind::File, TargetKind::File, Ok(Placement::There)),
    (SourceKind::File, TargetKind::Folder, Ok(Placement::Into)),
    (SourceKind::Folder, TargetKind::Missing, Ok(Placement::There)),
    (SourceKind::Folder, TargetKind::MissingFolder, Ok(Placement::There)),
    (SourceKind::Folder, TargetKind::File, Err(IS_FILE)),
    (SourceKind::Folder, TargetKind::Folder, Ok(Placement::Into)),
    (SourceKind::Contents, TargetKind::Missing, Ok(Placement::There)),
    (SourceKind::Contents, TargetKind::MissingFolder, Ok(Placement::There)),
    (SourceKind::Contents, TargetKind::File, Err(IS_FILE)),
    (SourceKind::Contents, TargetKind::Folder, Ok(Placement::Merged)),
];

/// What the table says; several sources need a folder that is there.
///
/// # Errors
/// Says what does not go together.
pub fn place(
    source: SourceKind,
    target: TargetKind,
    several: bool,
) -> Result<Placement, RuleError> {
    if several && target != TargetKind::Folder {
        return Err(ONE_TARGET);
    }
    let rule = RULES.iter().find(|(from, to, _)| (*from, *to) == (source, target));
    rule.map_or(Err(("there is no rule for it", "copy it to a new name")), |(_, _, put)| *put)
}

/// The table in words, for the manual: what and where to, and what becomes of it.
pub fn rules() -> Vec<(String, &'static str)> {
    let source = |source| match source {
        SourceKind::File => "a file or link",
        SourceKind::Folder => "a folder",
        SourceKind::Contents => "a folder with /. at its end",
    };
    let target = |target| match target {
        TargetKind::Missing => "to nothing",
        TargetKind::MissingFolder => "to nothing, with a slash at its end",
        TargetKind::File => "to a file",
        TargetKind::Folder => "to a folder",
    };
    let line = |(from, to, put): &(SourceKind, TargetKind, Result<Placement, RuleError>)| {
        let becomes = match put {
            Ok(Placement::There) if *from == SourceKind::File && *to == TargetKind::File => {
                "It takes its place."
            }
            Ok(Placement::There) if *from == SourceKind::File => "It gets that name.",
            Ok(Placement::There) => {
                "A folder of that name is made, and what is in the source goes in."
            }
            Ok(Placement::Into) => "It goes into that folder under its own name.",
            Ok(Placement::Merged) => "What is in the source goes into that folder.",
            Err(_) => "An error; nothing is copied.",
        };
        (format!("{} {}", source(*from), target(*to)), becomes)
    };
    RULES.iter().map(line).collect()
}

/// A side of a copy as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A tar stream on stdin or stdout.
    Stream,
    /// A path here.
    Here(Vec<u8>),
    /// A container and a path inside, from its root on.
    Inside(String, Vec<u8>),
}

impl Endpoint {
    /// Reads `FILE`, `CTR:PATH` and `-`. What begins with `/` or `.` is here; so is what has no colon.
    /// A qualified container has one colon more, after what is a kind: `docker:web:/etc`.
    pub fn parse(word: &[u8], is_kind: impl Fn(&str) -> bool) -> Self {
        if word == b"-" {
            return Self::Stream;
        }
        let colon = word.iter().position(|b| *b == b':');
        let here = matches!(word.first(), None | Some(b'/' | b'.'));
        let Some(first) = colon.filter(|colon| !here && *colon > 0) else {
            return Self::Here(word.to_owned());
        };
        let is_kind = std::str::from_utf8(&word[..first]).is_ok_and(is_kind);
        let second = word[first + 1..].iter().position(|b| *b == b':').map(|at| first + 1 + at);
        let end = second.filter(|_| is_kind).unwrap_or(first);
        match std::str::from_utf8(&word[..end]) {
            Ok(name) => Self::Inside(name.to_owned(), word[end + 1..].to_owned()),
            Err(_) => Self::Here(word.to_owned()),
        }
    }
}

/// The last name of a path, without what a slash or a dot at its end says; none for a root.
pub fn last_name(path: &[u8]) -> Option<&[u8]> {
    path.split(|b| *b == b'/').rfind(|part| !part.is_empty() && *part != b"." && *part != b"..")
}

/// Whether a path ends in `/.`, or is one dot: what is in it is meant.
pub fn is_contents(path: &[u8]) -> bool {
    path == b"." || path.ends_with(b"/.")
}

/// Whether a name has something in it that a shell would expand.
pub fn is_pattern(name: &[u8]) -> bool {
    name.iter().any(|b| b"*?[".contains(b))
}

/// Whether a name fits a pattern of `*`, `?`, `[a-z]`, `[!a-z]` and `\` before any of them (glob(7)).
/// A dot at the beginning has to be written.
pub fn fits(name: &[u8], pattern: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    matches(name, pattern)
}

fn matches(name: &[u8], pattern: &[u8]) -> bool {
    // Back to the last star when something does not fit: never exponential.
    let (mut at, mut in_pattern) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < name.len() {
        match one(name[at], &pattern[in_pattern..]) {
            GlobToken::Fits(length) => {
                at += 1;
                in_pattern += length;
                continue;
            }
            GlobToken::Star => {
                star = Some((at, in_pattern + 1));
                in_pattern += 1;
                continue;
            }
            GlobToken::Not => {}
        }
        let Some((from, after)) = star else { return false };
        star = Some((from + 1, after));
        (at, in_pattern) = (from + 1, after);
    }
    pattern[in_pattern..].iter().all(|b| *b == b'*')
}

enum GlobToken {
    Fits(usize),
    Star,
    Not,
}

fn one(byte: u8, pattern: &[u8]) -> GlobToken {
    match pattern {
        [b'*', ..] => GlobToken::Star,
        [b'?', ..] => GlobToken::Fits(1),
        [b'\\', wanted, ..] if *wanted == byte => GlobToken::Fits(2),
        [b'[', rest @ ..] => {
            let not = matches!(rest.first(), Some(b'!' | b'^'));
            let begin = usize::from(not);
            // A bracket that comes first is one of the set.
            let end = rest.iter().skip(begin + 1).position(|b| *b == b']');
            let Some(end) = end.map(|end| end + begin + 1) else {
                return if byte == b'[' { GlobToken::Fits(1) } else { GlobToken::Not };
            };
            let set = &rest[begin..end];
            let mut has = false;
            let mut at = 0;
            while at < set.len() {
                if at + 2 < set.len() && set[at + 1] == b'-' {
                    has |= (set[at]..=set[at + 2]).contains(&byte);
                    at += 3;
                } else {
                    has |= set[at] == byte;
                    at += 1;
                }
            }
            if has == not { GlobToken::Not } else { GlobToken::Fits(end + 2) }
        }
        [wanted, ..] if *wanted == byte => GlobToken::Fits(1),
        _ => GlobToken::Not,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_cps_rules() {
        use SourceKind::{Contents, File, Folder};
        use TargetKind::{Missing, MissingFolder};
        for (source, target, put) in [
            (File, Missing, Some(Placement::There)),
            (File, MissingFolder, None),
            (File, TargetKind::File, Some(Placement::There)),
            (File, TargetKind::Folder, Some(Placement::Into)),
            (Folder, Missing, Some(Placement::There)),
            (Folder, MissingFolder, Some(Placement::There)),
            (Folder, TargetKind::File, None),
            (Folder, TargetKind::Folder, Some(Placement::Into)),
            (Contents, Missing, Some(Placement::There)),
            (Contents, TargetKind::File, None),
            (Contents, TargetKind::Folder, Some(Placement::Merged)),
        ] {
            assert_eq!(place(source, target, false).ok(), put, "{source:?} to {target:?}");
        }
        assert!(place(File, TargetKind::File, true).is_err());
        assert_eq!(place(File, TargetKind::Folder, true), Ok(Placement::Into));
    }

    #[test]
    fn sides_are_told_by_their_colon() {
        let inside = |ctr: &str, path: &str| Endpoint::Inside(ctr.into(), path.into());
        let parse = |word| Endpoint::parse(word, |kind| ["docker", "cri", "pid"].contains(&kind));
        assert_eq!(parse(b"web:/etc/a:b"), inside("web", "/etc/a:b"));
        assert_eq!(parse(b"docker:web:/etc"), inside("docker:web", "/etc"));
        assert_eq!(parse(b"cri:ns/pod/c:x"), inside("cri:ns/pod/c", "x"));
        assert_eq!(parse(b"pid:12:/etc"), inside("pid:12", "/etc"));
        assert_eq!(parse(b"web:"), inside("web", ""));
        for here in ["./a:b", "/a:b", "a", "../a:b", ":a"] {
            assert_eq!(parse(here.as_bytes()), Endpoint::Here(here.into()), "{here}");
        }
        assert_eq!(parse(b"-"), Endpoint::Stream);
    }

    #[test]
    fn patterns_are_a_shells() {
        for (pattern, yes, no) in [
            ("*.log", "a.log", "a.txt"),
            ("a?c", "abc", "ac"),
            ("[a-c]x", "bx", "dx"),
            ("[!a-c]x", "dx", "bx"),
            ("[]]", "]", "a"),
            ("\\*", "*", "a"),
            ("*a*b*c", "xaxbxc", "xaxbx"),
            (".*", ".x", "x"),
            ("*", "x", ".x"),
            ("[", "[", "a"),
        ] {
            assert!(fits(yes.as_bytes(), pattern.as_bytes()), "{yes} {pattern}");
            assert!(!fits(no.as_bytes(), pattern.as_bytes()), "{no} {pattern}");
        }
        let long = "a".repeat(5000);
        assert!(!fits(long.as_bytes(), b"*a*a*a*a*a*a*a*b"));
    }

    #[test]
    fn last_names_are_without_slashes_and_dots() {
        assert_eq!(last_name(b"/a/b/"), Some(&b"b"[..]));
        assert_eq!(last_name(b"/a/b/."), Some(&b"b"[..]));
        assert_eq!(
            (last_name(b"/"), is_contents(b"/a/."), is_contents(b"a.")),
            (None, true, false)
        );
    }
}
