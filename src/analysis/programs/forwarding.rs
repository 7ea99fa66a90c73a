//! The options with which inits that forward signals are started. (Variables can do the same; the forecast, which
//! reads them, is more exact.)

use crate::analysis::options::OptionTable;
use crate::model::process::Process;
use crate::model::signal::Signal;

/// The options of tini; glibc's getopt(3) takes them from its program's arguments, too.
pub const TINI_OPTIONS: OptionTable =
    OptionTable { short: "p:hvwgle:s", long: &[], permutes: true };
/// The options of dumb-init.
pub const DUMB_INIT_OPTIONS: OptionTable = OptionTable {
    short: "hvVcr:",
    long: &[
        ("help", 'h'),
        ("single-child", 'c'),
        ("rewrite", 'r'),
        ("verbose", 'v'),
        ("version", 'V'),
    ],
    permutes: false,
};

/// Parses `FROM:TO`, two signal numbers; 0 for TO drops the signal.
pub fn rewrite(text: &[u8]) -> Option<(Signal, Option<Signal>)> {
    let (from, to) = std::str::from_utf8(text).ok()?.split_once(':')?;
    let from = Signal::parse(from.trim()).ok()?;
    match to {
        "0" => Some((from, None)),
        to => Some((from, Some(Signal::parse(to).ok()?))),
    }
}

/// Returns the note for a tini with an option that changes it.
pub(super) fn tini_note(process: &Process, _: Signal) -> Option<String> {
    // An option behind the program may be the program's.
    let table = OptionTable { permutes: false, ..TINI_OPTIONS };
    let words: Vec<&[u8]> = process.command.known()?.argv().collect();
    let has_group = table.parse(&words)?.has('g');
    has_group.then(|| "forwards it to the process group of its child (-g)".into())
}

/// Returns the note for a dumb-init with options that change it.
pub(super) fn dumb_init_note(process: &Process, signal: Signal) -> Option<String> {
    let words: Vec<&[u8]> = process.command.known()?.argv().collect();
    let parsed = DUMB_INIT_OPTIONS.parse(&words)?;
    // The last rewrite of a signal counts.
    let values = parsed.options.iter().rev().filter(|(letter, _)| *letter == 'r');
    let mut rewrites = values.filter_map(|(_, value)| rewrite((*value)?));
    let target = match parsed.has('c') {
        true => "to its direct child only (-c)",
        false => "to the whole session of its child",
    };
    match rewrites.find(|(from, _)| *from == signal) {
        Some((_, None)) => Some("drops it (option --rewrite)".into()),
        Some((_, Some(other))) => {
            Some(format!("forwards it as {other} {target} (option --rewrite)"))
        }
        None => parsed.has('c').then(|| format!("forwards it {target}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_rewrites_of_dumb_init() {
        assert_eq!(rewrite(b"15:3"), Some((Signal::TERM, Some(Signal::QUIT))));
        assert_eq!(rewrite(b"15:0"), Some((Signal::TERM, None)));
        assert_eq!(rewrite(b"15"), None);
    }
}
