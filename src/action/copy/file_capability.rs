//! File capabilities (capabilities(7), "File capability extended attribute versioning"). They count for
//! one user namespace, that of the user ID in them; a copy into another container has to name its root.

/// The extended attribute.
pub const NAME: &[u8] = b"security.capability";

/// VFS_CAP_REVISION_MASK and the revisions (include/uapi/linux/capability.h).
const REVISION_MASK: u32 = 0xff00_0000;
const REVISION_1: u32 = 0x0100_0000;
const REVISION_2: u32 = 0x0200_0000;
const REVISION_3: u32 = 0x0300_0000;
/// The sets of the revisions 2 and 3.
const SETS: usize = 16;

/// Capabilities that a program gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileCapability {
    /// Flags and sets, without the revision.
    effective: u32,
    sets: [u8; SETS],
    /// Root of the user namespace that they count for.
    pub root: u32,
}

impl FileCapability {
    /// Parses a value of the extended attribute. None if it is not one.
    pub fn from_xattr(value: &[u8]) -> Option<Self> {
        let (magic, rest) = value.split_first_chunk::<4>()?;
        let magic = u32::from_le_bytes(*magic);
        let effective = magic & !REVISION_MASK;
        let mut sets = [0; SETS];
        let root = match (magic & REVISION_MASK, rest.len()) {
            // Revision 1 has 32 capabilities.
            (REVISION_1, 8) => 0,
            (REVISION_2, SETS) => 0,
            (REVISION_3, 20) => u32::from_le_bytes(rest[SETS..].try_into().ok()?),
            _ => return None,
        };
        let length = rest.len().min(SETS);
        sets[..length].copy_from_slice(&rest[..length]);
        Some(Self { effective, sets, root })
    }

    /// Returns the same capabilities for another root.
    #[must_use]
    pub fn with_root(self, root: u32) -> Self {
        Self { root, ..self }
    }

    /// Returns the value: in revision 2 if they count for root.
    pub fn to_xattr(&self) -> Vec<u8> {
        let revision = if self.root == 0 { REVISION_2 } else { REVISION_3 };
        let mut value = (revision | self.effective).to_le_bytes().to_vec();
        value.extend(self.sets);
        if self.root != 0 {
            value.extend(self.root.to_le_bytes());
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_follow_the_root() {
        // cap_net_raw+ep
        let bytes = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let mut capability = FileCapability::from_xattr(bytes).unwrap();
        assert_eq!((capability.root, capability.to_xattr()), (0, bytes.to_vec()));
        capability.root = 100_000;
        let namespaced = capability.to_xattr();
        assert_eq!((namespaced.len(), namespaced[3]), (24, 3));
        assert_eq!(FileCapability::from_xattr(&namespaced), Some(capability));
        assert_eq!(FileCapability::from_xattr(b"\x01\0\0\x02"), None);
        assert_eq!(
            FileCapability::from_xattr(b"\x01\0\0\x09\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            None
        );
        let old = FileCapability::from_xattr(b"\x01\0\0\x01\0\x20\0\0\0\0\0\0").unwrap();
        assert_eq!(old.to_xattr(), bytes);
    }
}
