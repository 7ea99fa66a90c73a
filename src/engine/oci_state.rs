//! The state directories of the OCI runtimes (runc, crun, youki, runsc): `<root>/ID/FILE`, where FILE is the
//! runtime's own; runsc has one file in `<root>`. The same files exist for Podman's containers, whose start times are read here.

use std::path::Path;

use super::record::{Record, RecordReader, SearchPath, unique_paths};
use crate::model::engine::{EngineAdvice, EngineInfo};
use crate::proc::StateFile;

/// Advice on a container of a bundle. These runtimes have no stop command, and no settings for one.
pub(super) const OCI_ADVICE: EngineAdvice = EngineAdvice {
    exec_form: "start the program itself in `process.args` of its `config.json`",
    init: "tini before the program in `process.args` of its `config.json`",
    ..EngineAdvice::DEFAULT
};

/// Fills in a record from a state file; `None` if the file is not of that container.
type Parser = fn(&RecordReader<'_>, &StateFile, &mut Record) -> Option<()>;

/// Returns the ID and the path of the state file for an entry of a root; `None` for an entry that has none.
type StateFileOf = fn(&str) -> Option<(&str, String)>;

/// Reads the records of one runtime, whose program and default directory have the engine's name.
pub(super) fn read_records(
    reader: &RecordReader<'_>,
    engine: &'static EngineInfo,
    state_file_of: StateFileOf,
    parse: Parser,
    records: &mut Vec<Record>,
) {
    for root in roots(reader, engine.name) {
        let Some(dir) = reader.read(reader.host.state_dir(&root.path)) else { continue };
        for entry in reader.read(dir.names()).unwrap_or_default() {
            let Some((id, path)) = state_file_of(&entry) else { continue };
            if reader.has_passed_over(id) {
                continue;
            }
            let Some(file) = reader.read(dir.read(path)) else { continue };
            let mut record = Record::new(engine, id.to_owned(), &file).found_at(&root);
            // The ID is the only name there is.
            record.name = Some(record.id.clone());
            if parse(reader, &file, &mut record).is_some() {
                records.push(record);
            }
        }
    }
}

fn roots(reader: &RecordReader<'_>, program: &str) -> Vec<SearchPath> {
    let mut roots: Vec<SearchPath> = Vec::new();
    if reader.defaults {
        roots.push(SearchPath::default_path(Path::new("/run").join(program)));
        let users = reader.users.iter().map(|user| user.runtime_dir.join(program));
        roots.extend(users.map(SearchPath::default_path));
    }
    for runtime in reader.shims_named(&[program]) {
        let root = runtime
            .global_option(&["--root", "-r"], &["run", "create", "start", "exec", "restore"]);
        roots.extend(root.map(|path| SearchPath::from_shim(runtime, path)));
    }
    // A user's Podman keeps its runtime's state next to its run root, in XDG_RUNTIME_DIR.
    for conmon in reader.shims_named(&["conmon"]) {
        let pidfile = conmon.option(&["-p", "--container-pidfile"]).unwrap_or_default();
        let runtime_dir = Path::new(pidfile).ancestors().nth(5);
        let root = runtime_dir.map(|dir| dir.join(program));
        roots.extend(root.map(|root| SearchPath::from_shim(conmon, root)));
    }
    unique_paths(roots)
}

/// Returns a cgroup path of crun or youki, which may lack the leading slash; `None` if it is empty.
pub(super) fn absolute_cgroup(path: &str) -> Option<Vec<u8>> {
    (!path.is_empty()).then(|| format!("/{}", path.trim_start_matches('/')).into_bytes())
}
