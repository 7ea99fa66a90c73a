//! Entries for fuzzing: the engines' settings and databases, and names of cgroups. (The rest of their files
//! is read through a recorded host.)

use super::{
    containerd, containerd_database, lxc_config, nspawn, nspawn_options, nspawn_settings, record,
    recorded_signal,
};
use crate::model::fuzz::FuzzTarget;

/// The entries of this module.
pub const TARGETS: &[FuzzTarget] = &[
    ("engine_settings", settings),
    ("engine_databases", databases),
    ("cgroup_names", cgroup_names),
];

fn settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = containerd::parse_config(&text);
    lxc_config::fuzz(&text);
    nspawn::fuzz(&text);
    let _ = nspawn_settings::NspawnSettings::of_file(&text);
    let argv: Vec<String> = text.split('\0').map(str::to_owned).collect();
    let _ = nspawn_settings::NspawnSettings::of_arguments(&argv).machine_name(None);
    let _ = nspawn_options::NspawnCommandLine::split(&argv);
    let _ = recorded_signal::parse_signal(&text);
    let _ = record::expand_cgroups_path(&text);
}

/// Reads databases: each is parsed in a child process, which a library may crash; this one must get an answer.
fn databases(bytes: &[u8]) {
    containerd_database::fuzz(bytes);
    super::podman_database::fuzz(bytes);
}

fn cgroup_names(bytes: &[u8]) {
    let _ = super::recognise(bytes);
}
