//! Namespaces as `/proc/PID/ns/*` spells them (`pid:[4026531836]`), and the table of their kinds. The
//! number is the inode of the namespace; it can be reused once the namespace is gone, so it is compared,
//! never kept.

use std::fmt;

use super::bytes::decimal;

/// Inode number of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamespaceId(pub u64);

impl NamespaceId {
    /// Parses the target of a link below `/proc/PID/ns`.
    ///
    /// ```text
    /// pid:[4026531836]
    /// ```
    pub fn parse(link: &[u8]) -> Option<Self> {
        let open = link.iter().position(|b| *b == b'[')?;
        decimal(link[open + 1..].strip_suffix(b"]")?).map(Self)
    }
}

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceKind {
    /// Name, and that of the link below `/proc/PID/ns`.
    pub name: &'static str,
    /// `CLONE_NEW*`, namespaces(7).
    pub flag: u32,
    /// The resources that it isolates, in a few words.
    pub about: &'static str,
}

/// The table of namespaces.
pub const KINDS: &[NamespaceKind] = &[
    NamespaceKind { name: "user", flag: 0x1000_0000, about: "users and capabilities" },
    NamespaceKind { name: "mnt", flag: 0x0002_0000, about: "mounts" },
    NamespaceKind { name: "uts", flag: 0x0400_0000, about: "host name" },
    NamespaceKind { name: "ipc", flag: 0x0800_0000, about: "System V IPC and message queues" },
    NamespaceKind { name: "net", flag: 0x4000_0000, about: "network" },
    NamespaceKind { name: "pid", flag: 0x2000_0000, about: "PIDs" },
    NamespaceKind { name: "cgroup", flag: 0x0200_0000, about: "cgroup root" },
    NamespaceKind { name: "time", flag: 0x0000_0080, about: "boot and monotonic clocks" },
];

impl NamespaceKind {
    /// Returns the kind with this name; `mount` and `network` are accepted too.
    pub fn named(name: &str) -> Option<Self> {
        let name = match name {
            "mount" => "mnt",
            "network" => "net",
            name => name,
        };
        KINDS.iter().copied().find(|kind| kind.name == name)
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
    fn parses_the_kernels_spelling_and_nothing_else() {
        assert_eq!(NamespaceId::parse(b"pid:[4026531836]"), Some(NamespaceId(4_026_531_836)));
        for bad in [&b"pid:[]"[..], b"pid:4026531836", b"", b"pid:[12", b"pid:[-1]"] {
            assert_eq!(NamespaceId::parse(bad), None);
        }
    }
}
