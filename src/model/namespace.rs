//! Namespaces as `/proc/PID/ns/*` spells them: `pid:[4026531836]`. The number is the inode of the
//! namespace; it may be used again once the namespace has died, so it is compared, never kept.

use std::fmt;

/// Inode number of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId(pub u64);

impl NamespaceId {
    /// The PID namespace the machine booted with (`PROC_PID_INIT_INO`, include/linux/proc_ns.h).
    pub const FIRST_PID: Self = Self(0xeffffffc);

    /// Parses the target of a link below `/proc/PID/ns`.
    ///
    /// ```text
    /// pid:[4026531836]
    /// ```
    pub fn parse(link: &[u8]) -> Option<Self> {
        let open = link.iter().position(|b| *b == b'[')?;
        let digits = link[open + 1..].strip_suffix(b"]")?;
        std::str::from_utf8(digits).ok()?.parse().ok().map(Self)
    }
}

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_spelling_and_nothing_else() {
        assert_eq!(NamespaceId::parse(b"pid:[4026531836]"), Some(NamespaceId::FIRST_PID));
        for bad in [&b"pid:[]"[..], b"pid:4026531836", b"", b"pid:[12", b"pid:[-1]"] {
            assert_eq!(NamespaceId::parse(bad), None);
        }
    }
}
