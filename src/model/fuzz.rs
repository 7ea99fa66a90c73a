//! Entries for fuzzing: the parsers of the kernel's files, of users' files and of programs, which a
//! container or another user can have written. Each also checks the invariants of every answer.

use super::*;
use crate::model::idmap::IdMap;
use crate::model::program_signals::{GoProgram, Source, handle_tree, listened};
use crate::model::signal::SignalSet;
use crate::model::trace::{TraceFormats, TracepointFormat, parse_record};

/// A name, and a function that takes any bytes and panics only if there is a fault in this program.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// The entries of this module.
pub const TARGETS: &[FuzzTarget] = &[
    ("proc_stat", |bytes| drop(stat::Stat::parse(bytes))),
    ("proc_status", |bytes| drop(status::Status::parse(bytes))),
    ("proc_cgroup", cgroups),
    ("proc_mountinfo", mountinfo),
    ("proc_maps_of_ids", ids),
    ("proc_limits", |bytes| drop(limits::parse(bytes))),
    ("proc_net", sockets),
    ("proc_syscall_and_fdinfo", waits),
    ("kernel_log", kernel_log),
    ("passwd_and_group", accounts),
    ("logs", logs),
    ("elf_and_go", programs),
    ("libuv_memory", libuv),
    ("trace_records", trace),
    ("signal_names", signal_names),
];

fn cgroups(bytes: &[u8]) {
    let memberships = cgroup::Memberships::parse(bytes);
    for membership in memberships.by_preference() {
        let whole = cgroup::prefix_through(&membership.path, usize::MAX);
        assert_eq!(whole, &*membership.path);
    }
    assert!(cgroup::parse_pids(bytes).iter().all(|pid| *pid > 0));
    let _ = cgroup::FreezerState::parse(bytes).is_frozen();
}

fn mountinfo(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(mount::Mounts::new(bytes).count() <= lines);
}

fn ids(bytes: &[u8]) {
    let Ok(map) = IdMap::parse(bytes) else { return };
    let _ = map.is_identity();
    for range in &map.ranges {
        let inside = range.inside.saturating_add(range.count / 2);
        // (Ranges of a forged file may overlap: the way back need not lead to the same ID.)
        let _ = map.to_outside(inside).and_then(|outside| map.to_inside(outside));
    }
}

fn sockets(bytes: &[u8]) {
    let mut table = sockets::SocketTable::default();
    table.add_tcp(bytes);
    table.add_unix(bytes);
    table.add_datagrams(bytes);
    let _ = table.role(sockets::socket_inode(bytes).unwrap_or(1));
}

fn waits(bytes: &[u8]) {
    let _ = signal_waiters::Call::parse(bytes);
    let _ = signal_waiters::signalfd_set(bytes);
    let _ = signal_waiters::epoll_targets(bytes);
    let _ = namespace::NamespaceId::parse(bytes);
    let _ = lookup::variable(bytes, b"PATH");
}

/// Parses records of `/dev/kmsg`, which are separated by NUL here.
fn kernel_log(bytes: &[u8]) {
    let mut parser = oom_kill::OomParser::default();
    let kills = bytes.split(|byte| *byte == 0).filter_map(|record| parser.next(record)).count();
    assert!(kills <= bytes.len());
    let _ = parser.finish();
}

fn accounts(bytes: &[u8]) {
    let names = passwd::UserNames::parse(bytes);
    for account in passwd::accounts(bytes) {
        assert!(names.name(account.uid).is_some());
        assert!(!account.name.is_empty() && !account.name.contains(&b'\n'));
    }
    for group in passwd::groups(bytes) {
        assert!(!group.name.is_empty());
        let _ = group.has(group.name);
    }
    assert!(names.all().count() <= bytes.len());
}

fn logs(bytes: &[u8]) {
    let plain = log_record::LogFormat::Plain { is_stderr: true };
    let of_driver = ["json-file", "local", "k8s-file"].map(log_record::LogFormat::of_driver);
    for format in of_driver.into_iter().flatten().chain([plain]) {
        for record in bytes.split(|byte| *byte == b'\n') {
            let _ = format.parse(record);
        }
        let _ = format.parse(bytes);
    }
    let _ = std::str::from_utf8(bytes).map(exit_record::parse_time);
}

fn programs(bytes: &[u8]) {
    let read = |buffer: &mut [u8], offset: u64| read_at(bytes, buffer, offset);
    let length = bytes.len() as u64;
    let _ = elf::ElfProgram::parse(bytes).map(|program| program.machine_name());
    let _ = GoProgram::read(&Source::new(length, &read));
    let _ = handle_tree(&Source::new(length, &read));
}

/// Reads a tree that begins at the address in the first eight bytes; addresses are offsets.
fn libuv(bytes: &[u8]) {
    let memory = |buffer: &mut [u8], offset: u64| read_at(bytes, buffer, offset);
    if let Ok(asked) = listened(&memory, 0, SignalSet(!0)) {
        assert!(asked.wanted.len() <= 64);
    }
}

fn read_at(bytes: &[u8], buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let piece = start.checked_add(buffer.len()).and_then(|end| bytes.get(start..end));
    buffer.copy_from_slice(piece.ok_or(std::io::ErrorKind::UnexpectedEof)?);
    Ok(())
}

/// Parses a `format` file, a NUL, a type and flags, and a record; with the one format for every tracepoint.
fn trace(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == 0) else { return };
    let (text, rest) = (String::from_utf8_lossy(&bytes[..end]), &bytes[end + 1..]);
    let format = TracepointFormat::parse(&text).unwrap_or_default();
    let formats = |chosen: u8| {
        let of = |index| if chosen == index { format.clone() } else { TracepointFormat::default() };
        TraceFormats { generate: of(0), deliver: of(1), exit: of(2), oom: of(3), attach: of(4) }
    };
    let Some((&[kind, flags, chosen], record)) = rest.split_first_chunk::<3>() else { return };
    let _ = parse_record(&formats(chosen), kind.into(), u16::from(flags) << 8, record);
}

fn signal_names(bytes: &[u8]) {
    if let Some(set) = SignalSet::from_hex(bytes) {
        assert_eq!(SignalSet::from_hex(set.to_hex().as_bytes()), Some(set));
        assert_eq!(set.names().len(), set.len());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(signal) = signal::Signal::parse(text) {
        assert_eq!(signal::Signal::parse(&signal.name()).ok(), Some(signal));
    }
}
