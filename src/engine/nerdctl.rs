//! The names that nerdctl gives: after a rename, containerd's own files have the first one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use super::record::{Record, RecordReader};
use crate::proc::Trust;

/// nerdctl's store of names, `<data>/<hash of the socket>/names/NAMESPACE/NAME`, where a file has the ID. It
/// has the name after a rename; the annotations have the first one.
pub(super) struct NerdctlNames<'a> {
    reader: &'a RecordReader<'a>,
    stores: Vec<PathBuf>,
    /// Names and IDs of each namespace.
    known: RefCell<BTreeMap<String, Vec<NerdctlName>>>,
}

#[derive(Clone)]
struct NerdctlName {
    name: String,
    id: String,
    owner: Trust,
}

impl<'a> NerdctlNames<'a> {
    pub(super) fn new(reader: &'a RecordReader<'a>) -> Self {
        let homes = reader.users.iter().filter_map(|user| user.home.as_ref());
        let data = homes.map(|home| home.join(".local/share/nerdctl"));
        let data: Vec<PathBuf> = data.chain([PathBuf::from("/var/lib/nerdctl")]).collect();
        let stores = data.iter().flat_map(|directory| {
            reader.names(directory).into_iter().map(move |hash| directory.join(hash).join("names"))
        });
        Self { reader, stores: stores.collect(), known: RefCell::default() }
    }

    /// Whether it has no names, so that a container's own record has all of them.
    pub(super) fn is_empty(&self) -> bool {
        self.stores.is_empty()
    }

    /// Returns the name of a container, unless it has several: those of two daemons.
    pub(super) fn of(&self, namespace: &str, record: &Record) -> Option<String> {
        if self.stores.is_empty() {
            return None;
        }
        let mut known = self.known.borrow_mut();
        let names = known.entry(namespace.to_owned()).or_insert_with(|| self.read(namespace));
        let mut names = names
            .iter()
            .filter(|name| name.id == record.id && name.owner.and(record.owner) == record.owner);
        let name = names.next()?;
        names.next().is_none().then(|| name.name.clone())
    }

    fn read(&self, namespace: &str) -> Vec<NerdctlName> {
        let reader = self.reader;
        let directories = self.stores.iter().map(|store| store.join(namespace));
        let directories = directories.filter_map(|path| reader.read(reader.host.state_dir(path)));
        let mut found = Vec::new();
        for directory in directories {
            for name in reader.read(directory.names()).unwrap_or_default() {
                let Some(file) = reader.read(directory.read(&name)) else { continue };
                let id = String::from_utf8_lossy(&file.bytes).trim().to_owned();
                found.push(NerdctlName { name, id, owner: file.owner });
            }
        }
        found
    }
}
