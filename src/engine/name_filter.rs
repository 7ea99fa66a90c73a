//! A search for the container of one name or ID: records of root's engines that cannot have it are passed over
//! before they are parsed or compared with the kernel. There may be hundreds of them.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use memchr::memmem::Finder;

use super::cgroup_name::{is_long_id, trailing_id};
use crate::model::cgroup;
use crate::proc::Trust;

/// The name that is searched for, and the IDs of the containers that do not have it.
#[derive(Debug)]
pub struct NameFilter {
    word: String,
    finder: Finder<'static>,
    passed_over: Mutex<HashSet<String>>,
}

impl NameFilter {
    /// Creates the filter of a word; none for one that no record has in one piece, as it was typed. (Engines
    /// escape none of these characters in JSON.)
    pub fn new(word: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        (!word.is_empty() && word.bytes().all(is_plain)).then(|| Self {
            word: word.to_owned(),
            finder: Finder::new(word).into_owned(),
            passed_over: Mutex::default(),
        })
    }

    fn ids(&self) -> MutexGuard<'_, HashSet<String>> {
        self.passed_over.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the container of a record can be skipped, and remembers that: its ID is its own
    /// alone and does not begin with the word, root wrote the record, and nothing in it is the word. A record that
    /// a user wrote is always read.
    pub fn passes_over(&self, id: &str, owner: Trust, record: &[u8]) -> bool {
        let is_passed_over = owner == Trust::Root
            && is_long_id(id)
            && !id.starts_with(&self.word)
            && self.finder.find(record).is_none();
        is_passed_over && { self.ids().insert(id.to_owned()) | true }
    }

    /// Whether the container of this ID was passed over.
    pub fn has_passed_over(&self, id: &str) -> bool {
        self.ids().contains(id)
    }

    /// Whether a cgroup is that of a container that was passed over.
    pub fn explains(&self, path: &[u8]) -> bool {
        let name = cgroup::components(path).last().unwrap_or_default();
        trailing_id(name).is_some_and(|id| self.has_passed_over(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_roots_records_without_the_word_are_passed_over() {
        let id = "3f2a".repeat(16);
        let filter = NameFilter::new("web-1").unwrap();
        let record = br#"{"Name":"/web-10"}"#;
        assert!(!filter.passes_over(&id, Trust::Root, record));
        assert!(!filter.passes_over(&id, Trust::User(1000), b"{}"));
        assert!(!filter.passes_over("db", Trust::Root, b"{}"));
        assert!(!filter.explains(format!("/docker/{id}").as_bytes()));
        assert!(filter.passes_over(&id, Trust::Root, b"{}"));
        assert!(filter.explains(format!("/system.slice/docker-{id}.scope").as_bytes()));
        assert!(filter.explains(format!("/docker/{id}").as_bytes()));
        assert!(!filter.explains(format!("/docker/{id}/init.scope").as_bytes()));
        for word in [&id, &id[..3]] {
            assert!(!NameFilter::new(word).unwrap().passes_over(&id, Trust::Root, b"{}"), "{word}");
        }
    }

    #[test]
    fn a_word_that_may_be_spelt_otherwise_has_no_filter() {
        assert!(["", "a/b", "é", "a b", "\"", "a:b"].iter().all(|w| NameFilter::new(w).is_none()));
    }
}
