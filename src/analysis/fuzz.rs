//! Entries for fuzzing: programs' scripts and settings, account files, and words of the command line.

use super::*;
use crate::model::fuzz::FuzzTarget;

/// The entries of this module.
pub const TARGETS: &[FuzzTarget] = &[
    ("shell_scripts", forecast::fuzz::shell_script),
    ("supervisord_settings", forecast::fuzz::supervisord),
    ("uwsgi_settings", forecast::fuzz::uwsgi),
    ("environments", environments),
    ("users_of_exec", users),
    ("file_name_patterns", patterns),
    ("mounts_of_inspect", mounts),
];

fn environments(bytes: &[u8]) {
    let lookup = |name: &[u8]| name.starts_with(b"A").then(|| name.to_owned());
    for variable in env_file::parse(bytes, &lookup).unwrap_or_default() {
        assert!(variable.iter().position(|byte| *byte == b'=').is_some_and(|end| end > 0));
        assert!(!variable.contains(&0));
    }
    let _ = env_file::parse_word(bytes, &lookup);
    let (variables, is_intact) = exec_environment::salvage(bytes);
    if is_intact {
        let whole = variables.join(&b'\0');
        assert_eq!(whole, bytes.strip_suffix(b"\0").unwrap_or(bytes));
    }
    let _ = exec_environment::candidates(bytes, &variables);
}

/// Parses a word, and after a NUL the file that its names are looked up in.
fn users(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (word, file) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Ok(spec) = user::UserSpec::parse(word) else { return };
    let init = user::Ids { uid: 7, gid: 7, groups: vec![7] };
    let Ok(identity) = user::identify(Some(&spec), &init, file, file) else { return };
    if let user::UserOrGroup::Id(uid) = spec.user {
        assert_eq!(identity.ids.uid, uid);
    }
    let mut ids = identity.ids;
    let _ = user::add_groups(&mut ids, spec.group.as_slice(), file);
}

/// Matches a pattern, and after a NUL a name.
fn patterns(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (pattern, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let compiled = copy_rules::NamePattern::new(pattern);
    let matches = compiled.matches(name);
    let is_plain = pattern.iter().all(|byte| !b"*?[\\".contains(byte));
    if is_plain && pattern.len() < 100 {
        assert_eq!(matches, pattern == name);
    }
    let _ = copy_rules::file_name(bytes);
}

fn mounts(bytes: &[u8]) {
    let half = bytes.len() / 2;
    let found = inspection::mounts::mounts(bytes, &bytes[half..]);
    assert!(found.len() <= bytes.len());
}
