//! The parser of paths as `cp` takes them: `FILE`, `CTR:PATH` and `-`. Pure: it decides by the spelling
//! alone.

use super::reference::is_qualifier;

/// A path on the host or in a container, or a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRef {
    /// `-`: a tar stream on stdin or stdout.
    Stream,
    /// A path on the host.
    Host(Vec<u8>),
    /// The reference of a container, and a path from its root.
    Container(String, Vec<u8>),
}

impl PathRef {
    /// Parses a path. One that begins with `/` or `.`, or has no colon, is on the host. A qualified
    /// reference has a colon of its own: `docker:web:/etc`.
    pub fn parse(word: &[u8]) -> Self {
        if word == b"-" {
            return Self::Stream;
        }
        let host = || Self::Host(word.to_owned());
        let colon = |start: usize| word[start..].iter().position(|b| *b == b':').map(|i| start + i);
        let Some(first) = colon(0).filter(|first| !matches!(word[0], b'/' | b'.') && *first > 0)
        else {
            return host();
        };
        let is_qualified = std::str::from_utf8(&word[..first]).is_ok_and(is_qualifier);
        let end = colon(first + 1).filter(|_| is_qualified).unwrap_or(first);
        match std::str::from_utf8(&word[..end]) {
            Ok(reference) => Self::Container(reference.to_owned(), word[end + 1..].to_owned()),
            Err(_) => host(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_colon_makes_a_path_in_a_container() {
        let container = |ctr: &str, path: &str| PathRef::Container(ctr.into(), path.into());
        for (word, expected) in [
            ("web:/etc/a:b", container("web", "/etc/a:b")),
            ("docker:web:/etc", container("docker:web", "/etc")),
            ("cri:ns/pod/c:x", container("cri:ns/pod/c", "x")),
            ("pid:12:/etc", container("pid:12", "/etc")),
            ("web:", container("web", "")),
            ("docker:", container("docker", "")),
            ("-", PathRef::Stream),
        ] {
            assert_eq!(PathRef::parse(word.as_bytes()), expected, "{word}");
        }
        for host in ["./a:b", "/a:b", "a", "../a:b", ":a", ""] {
            assert_eq!(PathRef::parse(host.as_bytes()), PathRef::Host(host.into()), "{host}");
        }
    }

    proptest! {
        #[test]
        fn nothing_of_a_path_is_lost(word in prop::collection::vec(prop_oneof![Just(b':'), any::<u8>()], 0..20)) {
            let parts = match PathRef::parse(&word) {
                PathRef::Stream => b"-".to_vec(),
                PathRef::Host(path) => path,
                PathRef::Container(reference, path) => [reference.as_bytes(), b":", &path].concat(),
            };
            prop_assert_eq!(parts, word);
        }
    }
}
