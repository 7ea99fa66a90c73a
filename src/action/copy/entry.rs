//! The attributes of a file that is copied, from a directory or a tar stream, in the terms of the side that
//! it comes from: IDs are those of the container, the host or the stream. A source fills them in, a sink
//! translates them.

use super::acl::{ACCESS_ACL, Acl, DEFAULT_ACL};
use super::file_capability::{self, FileCapability};
use super::metadata::{DroppedAttribute, Metadata};
use super::rootfs::{Node, Rootfs};
use crate::sys::file::{FileKind, xattr, xattr_names};

/// The attributes of a file: everything but its name, type and data.
#[derive(Clone, Debug, Default)]
pub struct EntryAttributes {
    /// Its metadata without capabilities; the owner is none if it has no ID on that side.
    pub metadata: Metadata,
    /// Capabilities of a program.
    pub capability: Option<FileCapability>,
    /// Attributes that the file has and that could not be read.
    pub unread: Vec<DroppedAttribute>,
}

impl EntryAttributes {
    /// Reads the attributes of a file; extended ones and the time of access with `archive` only.
    pub fn read(from: &Rootfs, node: &Node, archive: bool) -> Self {
        let attributes = &node.attributes;
        let metadata = Metadata {
            mode: attributes.mode,
            owner: from.container_ids(attributes.uid, attributes.gid),
            modified: Some(attributes.modified),
            ..Metadata::default()
        };
        let mut entry = Self { metadata, ..Self::default() };
        // Without `archive` too: the bits of the group are the mask of the list.
        if node.kind() != FileKind::Symlink {
            entry.metadata.access_acl = entry.read_acl(from, node, ACCESS_ACL);
        }
        if archive {
            entry.metadata.accessed = Some(attributes.accessed);
            entry.read_xattrs(from, node);
        } else {
            entry.metadata.access_acl = None;
            entry.unread.clear();
        }
        entry
    }

    fn read_acl(&mut self, from: &Rootfs, node: &Node, name: &[u8]) -> Option<Acl> {
        let value = match xattr(&node.fd, name) {
            Ok(value) => value?,
            Err(_) => {
                self.unread.push(DroppedAttribute::Acl);
                return None;
            }
        };
        let acl = Acl::from_xattr(&value);
        if name == ACCESS_ACL {
            // (A list in another form does not mention the group: it gets no rights.)
            self.metadata.set_mode_without(acl.as_ref());
        }
        let acl = acl.and_then(|acl| {
            acl.map_ids(|uid| from.container_uid(uid), |gid| from.container_gid(gid))
        });
        if acl.is_none() {
            self.unread.push(DroppedAttribute::Acl);
        }
        acl
    }

    fn read_xattrs(&mut self, from: &Rootfs, node: &Node) {
        let Ok(names) = xattr_names(&node.fd) else {
            return self.unread.push(DroppedAttribute::Xattrs);
        };
        for name in names {
            match &*name {
                ACCESS_ACL => continue,
                DEFAULT_ACL => {
                    self.metadata.default_acl = self.read_acl(from, node, DEFAULT_ACL);
                    continue;
                }
                _ => {}
            }
            match xattr(&node.fd, &name) {
                // It was removed after it was listed.
                Ok(None) => {}
                Ok(Some(value)) if name == file_capability::NAME => {
                    let capability = FileCapability::from_xattr(&value).and_then(|capability| {
                        let root = from.container_uid(capability.root)?;
                        Some(capability.with_root(root))
                    });
                    if capability.is_none() {
                        self.unread.push(DroppedAttribute::Capabilities);
                    }
                    self.capability = capability;
                }
                Ok(Some(value)) => self.metadata.xattrs.push((name, value)),
                Err(_) => self.unread.push(DroppedAttribute::xattr(&name)),
            }
        }
    }
}
