//! Data that a server writes before it exits: that takes as long as there are many of them, so that it may outlast
//! any grace period.

use super::ForecastInput;
use crate::analysis::options::OptionTable;
use crate::analysis::programs::{MOSQUITTO, program_of};
use crate::model::lookup::Lookup;
use crate::model::signal::Signal;

/// Whether a server writes its data before it exits on a signal, as far as that is known.
pub(super) fn may_save(input: &ForecastInput<'_>, process: usize, signal: Signal) -> bool {
    let program = program_of(&input.processes[process].facts);
    program.is_some_and(|program| {
        program.saves_on.contains(&signal)
            && (program.name != MOSQUITTO || mosquitto_may_save(input, process))
    })
}

/// Whether Mosquitto saves its data: only with `persistence true` in its configuration (mosquitto.conf(5)).
fn mosquitto_may_save(input: &ForecastInput<'_>, process: usize) -> bool {
    let table = OptionTable { short: "c:dhp:qv", long: &[], permutes: true };
    let Some(parsed) = table.parse(&input.arguments(process)) else { return true };
    let mut files = parsed.options.iter().filter(|(letter, _)| *letter == 'c');
    let Some((_, file)) = files.next_back() else { return false };
    let Some(Ok(content)) = file.map(|file| input.look_up(process, Lookup::File(file.to_vec())))
    else {
        return true;
    };
    !input.is_from_start(process, content.changed) || configures_saving(&content.bytes)
}

/// Whether a configuration of Mosquitto turns the saving of data on, or may do so: it includes others, or runs
/// plugins.
fn configures_saving(text: &[u8]) -> bool {
    text.split(|b| *b == b'\n').any(|line| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        match words.next() {
            Some(b"persistence") => words.next() != Some(b"false"),
            Some(b"include_dir") => true,
            Some(word) => !word.starts_with(b"#") && word.windows(6).any(|part| part == b"plugin"),
            None => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_persistence_of_mosquitto() {
        for (text, saves) in [
            ("", false),
            ("listener 0 /sock\nallow_anonymous true\n", false),
            ("#persistence true\n# plugin x\n", false),
            ("persistence false\n", false),
            ("listener 1\n persistence\ttrue\n", true),
            ("include_dir /etc/mosquitto/conf.d\n", true),
            ("auth_plugin /x.so\n", true),
        ] {
            assert_eq!(configures_saving(text.as_bytes()), saves, "{text}");
        }
    }
}
