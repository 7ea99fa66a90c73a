//! Facts that LXC, LXD and Incus share, because all of them use liblxc: the cgroup `lxc.payload.NAME`, the
//! monitor with the title `[lxc monitor] PATH NAME`, whose child is the init, and the configuration. No file
//! holds the PID, and the command socket is not asked: any process can listen on that abstract name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::lxc_config::{LxcConfig, Unread};
use super::record::{Record, RecordReader, SearchPath, Shim, unique_paths};
use crate::model::cgroup;
use crate::model::container::Container;
use crate::model::engine::EngineInfo;
use crate::model::pid::HostPid;
use crate::model::process_config::ProcessConfig;
use crate::model::signal::Signal;
use crate::model::stop_policy::{StopPolicy, StopSignal, UnsignalledEffect, UnsignalledStop};
use crate::proc::{Host, ReadError, Trust};

/// Name of the configuration that LXD and Incus write for each start.
pub(super) const SAVED: &str = "lxc.conf";
/// Name of a configuration of LXC itself.
pub(super) const CONFIGURATION: &str = "config";

/// One engine that uses liblxc.
pub(super) struct LxcUser {
    pub engine: &'static EngineInfo,
    /// Directories with a directory for each container, and the name of the configuration in it.
    pub configurations: &'static [(&'static str, &'static str)],
    /// Directory with users' containers below their homes, likewise.
    pub below_home: Option<(&'static str, &'static str)>,
    /// Settings that name another directory (lxc.system.conf(5)): root's, and those below users' homes.
    pub settings: Option<(&'static str, &'static str)>,
    /// Whether the containers below a directory are this engine's.
    pub uses: fn(&str) -> bool,
}

/// The stop of a container whose configured stop signal is not one.
const KILLS: UnsignalledStop = UnsignalledStop {
    reason: "the configured one is not a signal, so lxc-stop sends none, and kills everything at once",
    effect: UnsignalledEffect::KillsAfter(Duration::ZERO),
};
/// The same of LXD and Incus, which were not tried.
const UNTRIED: UnsignalledStop = UnsignalledStop {
    reason: "the configured one is not a signal, and the effect of a stop by its engine is not known then",
    effect: UnsignalledEffect::Unknown,
};

impl LxcUser {
    /// Returns the name in a cgroup's name.
    pub(super) fn recognise(component: &str) -> Option<String> {
        let name = component.strip_prefix("lxc.payload.")?;
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// Reads configurations, and the titles of monitors.
    pub(super) fn read_records(&self, reader: &RecordReader<'_>, records: &mut Vec<Record>) {
        if reader.defaults {
            for directory in self.directories(reader) {
                read_configurations(self.engine, reader, &directory, records);
            }
        }
        for monitor in reader.shims {
            let Some((path, name)) = monitored(monitor).filter(|(path, _)| (self.uses)(path))
            else {
                continue;
            };
            let mut record = Record::of_child(self.engine, name, monitor);
            record.cgroup =
                monitor.child.and_then(|init| payload(reader, init, name, monitor, path));
            set_names(&mut record, path);
            records.push(record);
        }
    }

    /// Returns the directories of configurations, each once, with the names of the configurations.
    fn directories(&self, reader: &RecordReader<'_>) -> Vec<SearchPath<(PathBuf, &'static str)>> {
        let homes = reader.users.iter().filter_map(|user| user.home.as_ref());
        let mut directories: Vec<_> =
            self.configurations.iter().map(|(path, name)| (path.into(), *name)).collect();
        let mut settings = Vec::new();
        for home in homes {
            directories.extend(self.below_home.map(|(path, name)| (home.join(path), name)));
            settings.extend(self.settings.map(|(_, below_home)| home.join(below_home)));
        }
        settings.extend(self.settings.map(|(file, _)| file.into()));
        let named: Vec<_> = settings
            .iter()
            .filter_map(|file| configured_directory(reader, file))
            .map(|SearchPath { path, owner }| SearchPath { path: (path, CONFIGURATION), owner })
            .filter(|named| !directories.contains(&named.path))
            .collect();
        let defaults = directories.into_iter().map(SearchPath::default_path);
        defaults.chain(unique_paths(named)).collect()
    }

    /// Returns the policy of lxc-stop (lxccontainer.c, do_lxcapi_shutdown): the configured signal,
    /// or RTMIN+3 for an init that blocks it, as systemd does. lxc-stop reads `SigBlk`, which does
    /// not have the signals that a thread is waiting for in sigwait.
    pub(super) fn stop_policy(&self, host: &Host, container: &Container) -> StopPolicy {
        let path = self.configuration(host, container);
        let is_saved = path.as_ref().is_none_or(|path| path.ends_with(SAVED));
        let config = path.map_or(Err(Unread), |path| LxcConfig::read(host, &path));
        let status = container.init.and_then(|init| host.status(init.pid).ok());
        let halt = config.as_ref().ok().and_then(|config| config.halt_signal);
        let blocks = status.is_some_and(|status| status.sig_blk.contains(Signal::RTMIN_3));
        let signal = match halt.map(|number| Signal::new(number.try_into().ok()?)) {
            Some(Some(signal)) => StopSignal::Recorded(signal),
            Some(None) => StopSignal::Unsignalled(if is_saved { UNTRIED } else { KILLS }),
            None if config.is_err() => StopSignal::Unread("its configuration could not be read"),
            None => StopSignal::Unset,
        };
        StopPolicy {
            signal,
            signal_for_init: blocks.then_some(Signal::RTMIN_3),
            grace_unread: is_saved.then_some("it is set by the client that stops a container"),
            ..StopPolicy::default()
        }
    }

    /// Returns `lxc.environment` and `lxc.arch`. The first is a part of the environment: liblxc adds it to
    /// the rest.
    pub(super) fn process_config(
        &self,
        host: &Host,
        container: &Container,
    ) -> Option<ProcessConfig> {
        let path = self.configuration(host, container)?;
        let owner = Trust::of_container(container);
        let config = LxcConfig::read_as(host, &path, owner).ok()?;
        let variables = config.environment.into_iter().map(String::into_bytes);
        Some(ProcessConfig {
            source: path.display().to_string(),
            environment: Some(variables.collect()),
            personality: config.personality,
            ..ProcessConfig::default()
        })
    }

    /// Returns the configuration of a container: its record, or the one below the path in the title of
    /// its monitor, or else the one in the default directory.
    fn configuration(&self, host: &Host, container: &Container) -> Option<PathBuf> {
        let Some(record) = &container.record else {
            let (directory, file_name) = self.configurations.first()?;
            return Some(Path::new(directory).join(container.name.as_ref()?).join(file_name));
        };
        if !record.starts_with("/proc") {
            return Some(record.clone());
        }
        let monitor: HostPid = record.parent()?.file_name()?.to_str()?.parse().ok()?;
        let cmdline = host.proc_file(monitor, "cmdline", 4096).ok()?;
        let title = cmdline.split(|byte| *byte == 0).next()?;
        let (path, name) = parse_title(std::str::from_utf8(title).ok()?)?;
        if !is_a_daemons(path) {
            return Some(Path::new(path).join(name).join(CONFIGURATION));
        }
        let mut saved = self
            .configurations
            .iter()
            .filter(|(_, file_name)| *file_name == SAVED)
            .map(|(directory, file_name)| Path::new(directory).join(name).join(file_name));
        saved.find(|path| !matches!(host.state_file(path), Err(ReadError::Gone)))
    }
}

/// Reads the configurations in a directory, which is trusted as far as what led to it.
fn read_configurations(
    engine: &'static EngineInfo,
    reader: &RecordReader<'_>,
    directory: &SearchPath<(PathBuf, &str)>,
    records: &mut Vec<Record>,
) {
    let (path, file_name) = &directory.path;
    let Some(dir) = reader.read(reader.host.state_dir(path)) else { return };
    for name in reader.read(dir.names()).unwrap_or_default() {
        if let Some(file) = reader.read(dir.read(format!("{name}/{file_name}"))) {
            let mut record = Record::new(engine, &name, &file).found_at(directory);
            record.cgroup = Some(format!("/lxc.payload.{name}").into_bytes());
            set_names(&mut record, &path.to_string_lossy());
            records.push(record);
        }
    }
}

/// Returns the directory that `lxc.lxcpath` names; the first one counts (liblxc, lxc_global_config_value).
fn configured_directory(reader: &RecordReader<'_>, settings: &Path) -> Option<SearchPath> {
    let file = reader.read(reader.host.state_file(settings))?;
    let text = String::from_utf8_lossy(&file.bytes);
    let path = text.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix("lxc.lxcpath")?;
        rest.trim_start().strip_prefix('=').map(|value| PathBuf::from(value.trim_start()))
    });
    let path = path.filter(|path| path.is_absolute())?;
    Some(SearchPath { path: path.components().collect(), owner: file.owner })
}

/// Whether LXD or Incus uses a directory, and not LXC's own commands.
pub(super) fn is_a_daemons(directory: &str) -> bool {
    directory.contains("lxd") || directory.contains("incus")
}

/// Returns the path and the name in the title of a monitor.
fn monitored(monitor: &Shim) -> Option<(&str, &str)> {
    parse_title(monitor.argv.first()?)
}

fn parse_title(title: &str) -> Option<(&str, &str)> {
    title.strip_prefix("[lxc monitor] ")?.rsplit_once(' ')
}

/// Returns the cgroup of a monitor's child, wherever the caller was allowed to create it: `lxc.payload.NAME`,
/// with `-1` and so on appended if that existed already, or the one of `lxc.cgroup.dir.container`
/// (lxc.container.conf(5)). The init may be in a cgroup below it (`….container.inner`).
fn payload(
    reader: &RecordReader<'_>,
    init: HostPid,
    name: &str,
    monitor: &Shim,
    path: &str,
) -> Option<Vec<u8>> {
    let memberships = reader.host.memberships(init).ok()?;
    let by_name = memberships.by_preference().find_map(|membership| {
        let index = cgroup::components(&membership.path).position(|part| {
            let part = std::str::from_utf8(part).unwrap_or_default();
            let rest = part.strip_prefix("lxc.payload.").and_then(|part| part.strip_prefix(name));
            rest.is_some_and(|rest| {
                rest.is_empty()
                    || rest.strip_prefix('-').is_some_and(|number| number.parse::<u32>().is_ok())
            })
        })?;
        Some(cgroup::prefix_through(&membership.path, index).to_vec())
    });
    if by_name.is_some() {
        return by_name;
    }
    let path = Path::new(path).join(name).join(CONFIGURATION);
    let config = LxcConfig::read_as(reader.host, &path, monitor.owner).ok()?;
    let configured = config.container_cgroup?;
    let wanted: Vec<&[u8]> = cgroup::components(configured.as_bytes()).collect();
    memberships.by_preference().find_map(|membership| {
        let parts: Vec<&[u8]> = cgroup::components(&membership.path).collect();
        let start = parts.windows(wanted.len().max(1)).position(|window| window == wanted)?;
        Some(cgroup::prefix_through(&membership.path, start + wanted.len() - 1).to_vec())
    })
}

/// Sets name and alias. LXD and Incus put `PROJECT_` before the names of containers outside their
/// default project.
fn set_names(record: &mut Record, directory: &str) {
    record.name = Some(record.id.clone());
    if is_a_daemons(directory) {
        let in_project = record.id.split_once('_').map(|(_, name)| name.to_owned());
        record.aliases.extend(in_project);
    }
}
