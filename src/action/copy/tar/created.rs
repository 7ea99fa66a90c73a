//! The directories that were created for the members of a stream, as a tree: a stream decides how many there are
//! and how deep, and a list of their paths would take the square of the depth.

use std::collections::HashMap;
use std::rc::Rc;

/// The directory that is unpacked to, which has no name.
const ROOT: usize = 0;

/// A directory that was created or leads to one.
struct DirectoryNode<T> {
    parent: usize,
    name: Rc<[u8]>,
    is_created: bool,
    value: Option<T>,
}

/// The tree. A node comes after its parent.
pub struct CreatedDirectories<T> {
    nodes: Vec<DirectoryNode<T>>,
    children: HashMap<(usize, Rc<[u8]>), usize>,
}

impl<T> Default for CreatedDirectories<T> {
    fn default() -> Self {
        let root = DirectoryNode { parent: ROOT, name: [].into(), is_created: false, value: None };
        Self { nodes: vec![root], children: HashMap::new() }
    }
}

impl<T> CreatedDirectories<T> {
    /// Adds the directories of a path after the first `existing`.
    pub fn add(&mut self, path: &[Vec<u8>], existing: usize) {
        let mut parent = ROOT;
        for (index, name) in path.iter().enumerate() {
            let name: Rc<[u8]> = name.as_slice().into();
            let node = *self.children.entry((parent, name.clone())).or_insert_with(|| {
                self.nodes.push(DirectoryNode { parent, name, is_created: false, value: None });
                self.nodes.len() - 1
            });
            self.nodes[node].is_created |= index >= existing;
            parent = node;
        }
    }

    /// Sets the value of a directory, if it was created.
    pub fn set(&mut self, path: &[Vec<u8>], value: T) {
        let mut node = ROOT;
        for name in path {
            let Some(child) = self.children.get(&(node, name.as_slice().into())) else { return };
            node = *child;
        }
        if self.nodes[node].is_created {
            self.nodes[node].value = Some(value);
        }
    }

    /// Returns the paths and values of the directories that have one, a directory before its parent.
    pub fn take_values(&mut self) -> impl Iterator<Item = (Vec<Vec<u8>>, T)> + use<T> {
        let Self { mut nodes, .. } = std::mem::take(self);
        (0..nodes.len()).rev().filter_map(move |index| {
            let value = nodes[index].value.take()?;
            let (mut path, mut node) = (Vec::new(), index);
            while node != ROOT {
                path.push(nodes[node].name.to_vec());
                node = nodes[node].parent;
            }
            path.reverse();
            Some((path, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn created_directories_have_values_and_come_before_their_parents() {
        let path = |text: &str| -> Vec<Vec<u8>> {
            text.split('/').map(|name| name.as_bytes().to_vec()).collect()
        };
        let mut tree = CreatedDirectories::default();
        tree.add(&path("old/new/newer"), 1);
        tree.add(&path("a"), 0);
        for (name, value) in [("old", 1), ("old/new", 2), ("old/new/newer", 3), ("a", 4), ("b", 5)]
        {
            tree.set(&path(name), value);
        }
        tree.set(&path("a"), 6);
        let values: Vec<_> = tree.take_values().collect();
        assert_eq!(values, [(path("a"), 6), (path("old/new/newer"), 3), (path("old/new"), 2)]);
        assert_eq!(tree.take_values().count(), 0);
    }
}
