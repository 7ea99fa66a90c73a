//! Entries for fuzzing of the parsers of scripts and settings.

/// Parses a script, its traps and the commands that follow each command.
pub fn shell_script(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    super::shells::fuzz(&text);
    let _ = super::shells::duration(bytes);
}

/// Parses settings of supervisord.
pub fn supervisord(bytes: &[u8]) {
    super::supervisord::fuzz(&String::from_utf8_lossy(bytes));
}

/// Parses settings of uWSGI.
pub fn uwsgi(bytes: &[u8]) {
    super::uwsgi::fuzz(bytes);
}
