//! Facts about a process that only its environment or its own file system has: the options of an init in
//! variables, the configuration of a supervisor, the script of a shell. An analysis requests them
//! while it runs, and runs again once they have been read. Never reads a file.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::pid::ProcessId;

/// One such fact. Paths are those of the process: from its root, or from its working directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lookup {
    /// The environment that it was started with.
    Environment,
    /// A regular file.
    File(Vec<u8>),
    /// The names in a directory, each with NUL at the end.
    Directory(Vec<u8>),
    /// How many clients are connected to it: a decimal number.
    Clients,
}

/// A fact that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupContent {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// When the file, or its owner or mode, was last changed (ctime), in milliseconds since the epoch.
    pub changed: Option<i64>,
    /// Whether anyone may execute the file.
    pub is_executable: bool,
}

/// The reason why a fact could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LookupError {
    /// The file does not exist, which is a fact as well.
    #[error("does not exist")]
    Absent,
    /// It was not read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

/// A fact, or the reason why it is missing.
pub type LookupResult = Result<LookupContent, LookupError>;

/// The facts that have been read, and those that are still wanted.
#[derive(Debug, Default)]
pub struct LookupStore {
    known: RefCell<BTreeMap<(ProcessId, Lookup), Rc<LookupResult>>>,
    wanted: RefCell<BTreeSet<(ProcessId, Lookup)>>,
}

impl LookupStore {
    /// Returns a fact; none if it has not been read yet, which notes it as wanted.
    pub fn get(&self, process: ProcessId, lookup: Lookup) -> Option<Rc<LookupResult>> {
        let key = (process, lookup);
        let found = self.known.borrow().get(&key).cloned();
        if found.is_none() {
            self.wanted.borrow_mut().insert(key);
        }
        found
    }

    /// Takes the facts that were requested and are not known.
    pub fn take_wanted(&self) -> Vec<(ProcessId, Lookup)> {
        std::mem::take(&mut *self.wanted.borrow_mut()).into_iter().collect()
    }

    /// Adds a fact.
    pub fn insert(&self, process: ProcessId, lookup: Lookup, result: LookupResult) {
        self.known.borrow_mut().insert((process, lookup), Rc::new(result));
    }
}

/// Returns the value of a variable in an environment (environ(7)): getenv(3) takes the first.
pub fn variable<'a>(environment: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut all = environment.split(|b| *b == 0);
    all.find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::pid::{HostPid, Ticks};

    #[test]
    fn the_first_of_two_variables_counts() {
        let environment = b"AB=0\0A=1\0A=2\0E=\0";
        assert_eq!(variable(environment, b"A"), Some(&b"1"[..]));
        assert_eq!(variable(environment, b"E"), Some(&b""[..]));
        assert_eq!(variable(environment, b"B"), None);
    }

    #[test]
    fn an_unknown_fact_is_noted_as_wanted() {
        let store = LookupStore::default();
        let process = ProcessId { pid: HostPid::new(7).unwrap(), start: Ticks(1) };
        assert_eq!(store.get(process, Lookup::Environment), None);
        assert_eq!(store.take_wanted(), [(process, Lookup::Environment)]);
        store.insert(process, Lookup::Environment, Err(LookupError::Absent));
        assert!(store.get(process, Lookup::Environment).is_some());
        assert_eq!(store.take_wanted(), []);
    }
}
