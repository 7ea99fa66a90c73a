//! Podman's database of containers, which alone has restart policies, stop timeouts and exit statuses.
//! SQLite: one row per container in `ContainerConfig` and in `ContainerState`
//! (libpod/sqlite_state_internal.go). Bolt: one bucket per container below `ctr`, with the keys `config` and
//! `state` (libpod/boltdb_state_internal.go). Both have JSON there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::database::{self, DatabaseCache, DatabaseCopy};
use super::labels::Labels;
use crate::model::container::Container;
use crate::model::exit_record::{ExitRecord, LogDestination, RecordedState, parse_time};
use crate::model::health_check::HealthCheck;
use crate::proc::{Host, Trust};

/// Databases below the graph root: Bolt until Podman 4.7, and later where there was one already
/// (libpod/runtime.go); SQLite in one of two directories.
const FILES: [&str; 3] = ["libpod/bolt_state.db", "db.sql", "libpod/db.sql"];

/// A container in the database, as far as this program needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct DatabaseEntry {
    pub id: String,
    /// The database.
    #[serde(default)]
    pub file: PathBuf,
    pub config: PodmanConfig,
    pub state: PodmanState,
}

/// The part of libpod's `ContainerConfig` that is used; a field that has its zero value is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PodmanConfig {
    /// Seconds; 0 means KILL at once.
    #[serde(rename = "stopTimeout")]
    pub stop_timeout: i64,
    pub restart_policy: String,
    pub restart_retries: u64,
    /// 0 none, 2 kill, 3 restart, 4 stop (libpod/define/healthchecks.go).
    pub healthcheck_on_failure_action: u8,
    /// `local`, `events_logger` or a directory; empty before Podman 5.3.
    #[serde(rename = "healthLogDestination")]
    pub health_log: String,
    /// The regular check, and the one until the container has started.
    #[serde(rename = "healthcheck")]
    pub health_check: Option<RecordedCheck>,
    #[serde(rename = "startupHealthCheck")]
    pub startup_check: Option<RecordedCheck>,
    #[serde(rename = "logDriver")]
    pub log_driver: String,
    #[serde(rename = "logPath")]
    pub log_path: Option<PathBuf>,
    pub labels: Labels,
}

/// A health check (image/manifest, `Schema2HealthConfig`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct RecordedCheck {
    #[serde(rename = "Test")]
    test: Option<Vec<String>>,
}

/// The part of libpod's `ContainerState` that is used.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodmanState {
    /// See libpod/define/containerstate.go.
    pub state: u8,
    pub started_time: String,
    pub finished_time: String,
    pub exit_code: i32,
    pub exited: bool,
    pub error: String,
    pub oom_killed: bool,
    pub stopped_by_user: bool,
    pub restart_count: u64,
    /// The directory of files of this run; it goes away with it.
    pub run_dir: PathBuf,
}

impl DatabaseEntry {
    /// Returns what Podman does with a container that is unhealthy.
    pub(super) fn on_failure(&self) -> Option<&'static str> {
        match self.config.healthcheck_on_failure_action {
            2 => Some("kill"),
            3 => Some("restart"),
            4 => Some("stop"),
            _ => None,
        }
    }

    /// Returns its health checks.
    pub(super) fn health_checks(&self) -> Vec<HealthCheck> {
        let checks = [&self.config.health_check, &self.config.startup_check].into_iter().flatten();
        checks.filter_map(|check| HealthCheck::parse(check.test.as_ref()?)).collect()
    }

    /// Returns the path of the log of health checks (libpod/healthcheck.go).
    pub(super) fn health_log(&self) -> PathBuf {
        match &*self.config.health_log {
            "" | "local" | "events_logger" => self.state.run_dir.with_file_name("healthcheck.log"),
            directory => Path::new(directory).join(format!("{}-healthcheck.log", self.id)),
        }
    }

    /// Returns how the container last ended.
    pub(super) fn exit_record(self) -> ExitRecord {
        let (config, state) = (self.config, self.state);
        let started = parse_time(&state.started_time);
        let name = match state.state {
            1 | 2 => RecordedState::Created,
            3 | 5 | 8 => RecordedState::Running,
            // Stopped, and cleaned up as well.
            4 | 6 => RecordedState::Exited,
            7 => RecordedState::Removing,
            _ => RecordedState::Stopped,
        };
        ExitRecord {
            state: name,
            status: state.exited.then_some(state.exit_code),
            // (conmon misses some OOM kills: without a record there may have been one.)
            oom: state.oom_killed.then_some(true),
            error: Some(state.error).filter(|error| !error.is_empty()),
            started,
            finished: parse_time(&state.finished_time),
            restarts: Some(state.restart_count),
            // (Not set if `podman container cleanup` was faster than `podman stop`.)
            stopped_manually: state.stopped_by_user.then_some(true),
            restart_limit: (config.restart_retries > 0).then_some(config.restart_retries),
            restart_policy: Some(config.restart_policy),
            sources: vec![self.file],
            log: Some(LogDestination::new(config.log_driver, config.log_path)),
            ..ExitRecord::default()
        }
    }

    /// Parses the two JSON texts of a container.
    fn parse(id: &[u8], config: &[u8], state: &[u8]) -> Option<Self> {
        Some(Self {
            id: String::from_utf8(id.to_vec()).ok()?,
            file: PathBuf::new(),
            config: serde_json::from_slice(config).ok()?,
            state: serde_json::from_slice(state).ok()?,
        })
    }
}

/// The containers of one graph root, by ID.
type Entries = HashMap<String, DatabaseEntry>;

static CACHE: DatabaseCache<Entries> = DatabaseCache::new();

/// Returns the entry of a container in the databases below its graph root, if they are its user's or
/// root's.
pub(super) fn entry(host: &Host, container: &Container) -> Option<DatabaseEntry> {
    let graph_root = container.record.as_ref()?.ancestors().nth(2)?;
    let owner = Trust::of_container(container);
    let entries = CACHE.get(host, graph_root, owner, || read_all(host, graph_root, owner));
    entries.get(container.id.as_ref()?).cloned()
}

/// Reads every database below a graph root. A container is in one of them.
fn read_all(host: &Host, graph_root: &Path, owner: Trust) -> Entries {
    let mut entries = Entries::new();
    for name in FILES {
        let found = database::read(host, graph_root, name, owner, containers);
        for mut entry in found.unwrap_or_default() {
            entry.file = graph_root.join(name);
            entries.entry(entry.id.clone()).or_insert(entry);
        }
    }
    entries
}

fn containers(copy: DatabaseCopy) -> Option<Vec<DatabaseEntry>> {
    if copy.is_sqlite() { sqlite(copy) } else { bolt(copy) }
}

/// Parses a database.
pub(super) fn fuzz(bytes: &[u8]) {
    let _ = database::parse_isolated(bytes.to_vec(), Trust::Root, containers);
}

fn sqlite(copy: DatabaseCopy) -> Option<Vec<DatabaseEntry>> {
    const QUERY: &str =
        "SELECT c.ID, c.JSON, s.JSON FROM ContainerConfig c JOIN ContainerState s ON s.ID = c.ID";
    let database = copy.sqlite()?;
    let mut statement = database.prepare(QUERY).ok()?;
    // Podman writes the JSON as TEXT, since 5.8 as BLOB.
    let entry = |row: &rusqlite::Row<'_>| {
        let bytes = |column| Some(row.get_ref(column).ok()?.as_bytes().ok()?.to_owned());
        DatabaseEntry::parse(&bytes(0)?, &bytes(1)?, &bytes(2)?)
    };
    let entries = statement.query_map([], |row| Ok(entry(row))).ok()?;
    // A row that cannot be parsed loses that container alone; a page that cannot be read ends the list.
    Some(entries.map_while(Result::ok).flatten().collect())
}

fn bolt(copy: DatabaseCopy) -> Option<Vec<DatabaseEntry>> {
    let database = copy.bolt()?;
    let transaction = database.begin_tx().ok()?;
    let containers = transaction.bucket(b"ctr").ok()?;
    let entry = |id: Vec<u8>| {
        let container = containers.bucket(&id)?;
        DatabaseEntry::parse(&id, container.get(b"config")?, container.get(b"state")?)
    };
    Some(containers.buckets().into_iter().filter_map(entry).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CONFIG: &str = r#"{"spec": {"root": {"path": "rootfs"}}, "stopSignal": 15, "stopTimeout": 60, "restart_policy": "always", "healthcheck": null}"#;
    const STATE: &str =
        r#"{"state": 6, "exitCode": 137, "finishedTime": "2026-11-26T02:37:17.6Z"}"#;

    /// Returns a database whose JSON is of an SQL type.
    fn sqlite_database(containers: usize, sql_type: &str) -> Vec<u8> {
        let database = rusqlite::Connection::open_in_memory().unwrap();
        database
            .execute_batch(
                "CREATE TABLE ContainerConfig(ID TEXT PRIMARY KEY NOT NULL, JSON TEXT NOT NULL);
                 CREATE TABLE ContainerState(ID TEXT PRIMARY KEY NOT NULL, JSON TEXT NOT NULL);",
            )
            .unwrap();
        for id in 0..containers {
            let id = format!("{id:064}");
            for (table, json) in [("ContainerConfig", CONFIG), ("ContainerState", STATE)] {
                let insert = format!("INSERT INTO {table} VALUES (?1, CAST(?2 AS {sql_type}))");
                database.execute(&insert, [&id, json]).unwrap();
            }
        }
        database.serialize(rusqlite::MAIN_DB).unwrap().to_vec()
    }

    fn bolt_database(containers: usize) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bolt_state.db");
        let mut database = nut::DBBuilder::new(&path).build().unwrap();
        {
            let mut transaction = database.begin_rw_tx().unwrap();
            {
                let mut all = transaction.create_bucket(b"ctr").unwrap();
                for id in 0..containers {
                    let container = all.create_bucket(format!("{id:064}").as_bytes()).unwrap();
                    container.put(b"config", CONFIG.into()).unwrap();
                    container.put(b"state", STATE.into()).unwrap();
                }
            }
            transaction.commit().unwrap();
        }
        drop(database);
        fs::read(path).unwrap()
    }

    fn parse(bytes: Vec<u8>) -> Option<Vec<DatabaseEntry>> {
        database::parse_isolated(bytes, Trust::Root, containers)
    }

    #[test]
    fn both_kinds_of_database_are_read() {
        let sqlite = ["TEXT", "BLOB"].map(|sql_type| sqlite_database(300, sql_type));
        for bytes in sqlite.into_iter().chain([bolt_database(300)]) {
            let entries = parse(bytes).unwrap();
            assert_eq!(entries.len(), 300);
            assert_eq!(entries[7].id, format!("{:064}", 7));
            assert_eq!(entries[7].config.stop_timeout, 60);
            assert_eq!(entries[7].config.restart_policy, "always");
            assert_eq!(entries[7].state.state, 6);
        }
    }

    #[test]
    fn a_broken_database_has_no_effect_beyond_its_own_containers() {
        for bytes in [Vec::new(), vec![0; 100_000], b"SQLite format 3\0".to_vec()] {
            assert_eq!(parse(bytes), None);
        }
        for whole in [sqlite_database(50, "BLOB"), bolt_database(50)] {
            // Every eighth of the pages is another page, so that some point to themselves; and cut short.
            let mut looped = whole.clone();
            let page = looped[4096..8192].to_vec();
            looped.chunks_exact_mut(4096).skip(2).step_by(8).for_each(|p| p.copy_from_slice(&page));
            let mut random = whole.clone();
            random.iter_mut().skip(20_000).step_by(37).for_each(|byte| *byte ^= 0x5a);
            for bytes in [looped, random, whole[..whole.len() / 3].to_vec()] {
                let entries = parse(bytes).unwrap_or_default();
                assert!(entries.iter().all(|entry| entry.id.len() == 64));
            }
        }
    }
}
