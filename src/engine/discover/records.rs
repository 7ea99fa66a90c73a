//! The first step of a search: records, each verified with the kernel before it names a container.

use std::collections::{HashMap, HashSet};

use super::{DoubtedRecord, RecordKey, Search, assemble, sandbox_remark, users};
use crate::engine::inventory::StoppedContainer;
use crate::engine::labels::compose;
use crate::engine::record::{Record, RecordReader, Shim};
use crate::engine::shims::{NamedShim, named_shims, read_named_shims};
use crate::engine::verify::{Verified, VerifyError, evidence, verify};
use crate::engine::{ENGINES, precedence};
use crate::model::container::Container;
use crate::model::pid::{HostPid, ProcessId, Ticks};
use crate::proc::{Survey, Trust, parallel_map};

impl Search<'_> {
    /// Reads the records in the engines' default directories, and those that the shims in a survey lead to. Returns
    /// the shims that were read.
    pub(super) fn read_first_records(&mut self, survey: Option<&Survey>) -> Vec<Shim> {
        let Some(survey) = survey else {
            self.read_records(true, &[], &[]);
            return Vec::new();
        };
        // Of hundreds of shims most are each the parent of one container, and all lead to the same directories.
        let mut names = HashSet::new();
        let (first, mut others): (Vec<NamedShim<'_>>, Vec<NamedShim<'_>>) = named_shims(survey)
            .into_iter()
            .partition(|shim| self.reads_ended || shim.is_monitor || names.insert(shim.name));
        let mut shims = read_named_shims(self.host, survey, &first);
        self.has_all_shims = true;
        // (The others may lead to records that confirm one that is not trusted so far.)
        self.is_sampling = !others.is_empty();
        self.read_records(true, &shims, &[]);
        self.is_sampling = false;
        if self.doubted.is_empty() {
            let count = others.len();
            others.retain(|shim| !self.parents_of_named.contains(&shim.pid));
            self.has_all_shims = others.len() == count;
        }
        if !others.is_empty() {
            let more = read_named_shims(self.host, survey, &others);
            self.read_records(false, &more, &[]);
            shims.extend(more);
        }
        shims
    }

    /// Reads records in the engines' default directories, and where shims and unexplained containers
    /// lead to; verifies them and adds their containers.
    pub(super) fn read_records(
        &mut self,
        defaults: bool,
        shims: &[Shim],
        unexplained: &[(String, HostPid)],
    ) {
        let known_users = self.users.len();
        users::add_owners(self.host, shims, &mut self.users);
        let reader = RecordReader {
            host: self.host,
            defaults,
            shims,
            unexplained,
            is_first_look: self.is_first_look,
            users: &self.users,
            filter: self.filter.as_ref(),
            reads_settings: self.reads_settings,
            diagnostics: &self.diagnostics,
        };
        let mut records = self.read_with(&reader);
        let new_users = &self.users[known_users..];
        if !defaults && !new_users.is_empty() {
            // (Root's directories are read again with theirs, and are not charged.)
            let (shims, unexplained) = (&[][..], &[][..]);
            let reader =
                RecordReader { defaults: true, users: new_users, shims, unexplained, ..reader };
            records.extend(self.read_with(&reader));
        }
        // The same list of containers may be read with several directories of PID files.
        records.retain(|record| record.owner != Trust::Untrusted && self.read.insert(key(record)));
        // These may confirm records that are not trusted so far.
        records.extend(std::mem::take(&mut self.doubted).into_iter().map(|doubted| doubted.record));
        fill_pids(&mut records);
        fill_start_times(&mut records);
        // A sandbox is added before the containers in it.
        let (sandboxed, others): (Vec<Record>, Vec<Record>) =
            records.into_iter().partition(Record::is_in_pod_sandbox);
        // The questions to the kernel about each take most of the time.
        let verdicts = parallel_map(&others, |record| {
            let pid = record.pid?;
            Some((pid, verify(self.host, record, pid)))
        });
        for (record, verdict) in others.into_iter().zip(verdicts) {
            self.add(record, verdict);
        }
        for record in sandboxed {
            self.add_sandboxed(record);
        }
    }

    /// Returns the records of the engines that are searched.
    fn read_with(&self, reader: &RecordReader<'_>) -> Vec<Record> {
        let mut records = Vec::new();
        for engine in ENGINES {
            if self.engines.is_empty() || self.engines.contains(&engine.info()) {
                engine.read_records(reader, &mut records);
            }
        }
        records
    }

    /// Adds the containers without processes of which only [`Engine::read_ended`] finds the records.
    ///
    /// [`Engine::read_ended`]: crate::engine::Engine::read_ended
    pub(super) fn read_ended(&mut self, shims: &[Shim]) {
        let mut records = Vec::new();
        let reader = RecordReader {
            host: self.host,
            defaults: true,
            shims,
            unexplained: &[],
            is_first_look: false,
            users: &self.users,
            filter: None,
            reads_settings: true,
            diagnostics: &self.diagnostics,
        };
        for engine in ENGINES {
            engine.read_ended(&reader, &mut records);
        }
        for record in records {
            if record.owner != Trust::Untrusted {
                self.add_stopped(record, None);
            }
        }
    }

    /// Adds a container in the sandbox of its pod, gVisor's kernel or Kata's virtual machine. Its
    /// record has the sandbox's PID or none: it is alive as long as the sandbox, and has no process on
    /// this host that could be signalled.
    fn add_sandboxed(&mut self, record: Record) {
        let is_sandbox = |container: &&Container| {
            let pods = container.pod.as_ref().zip(record.pod.as_ref());
            container.remark.is_some()
                && pods.is_some_and(|(sandbox, pod)| {
                    sandbox.container.is_none()
                        && (&sandbox.namespace, &sandbox.name, &sandbox.uid)
                            == (&pod.namespace, &pod.name, &pod.uid)
                })
        };
        let Some(sandbox) = self.inventory.containers.iter().find(is_sandbox) else {
            return self.add_stopped(record, None);
        };
        let observation = format!("in the sandbox of {}", sandbox.by_pid());
        let mut container = Container {
            init: None,
            pid_ns: None,
            owns_pid_ns: false,
            cgroup: None,
            evidence: vec![evidence(record.path.display(), observation, true)],
            ..sandbox.clone()
        };
        let remark = record.sandbox.map(|sandbox| {
            format!("runs in the {sandbox} sandbox of its pod: its processes are not on this host")
        });
        describe(&mut container, record);
        container.remark = remark;
        self.push(container);
    }

    /// Adds the container of a record with a PID that was verified; or notes that it is not running, or that
    /// the record is not trusted.
    fn add(&mut self, record: Record, verdict: Option<(HostPid, Result<Verified, VerifyError>)>) {
        let Some((pid, verdict)) = verdict else {
            return match record.doubt.clone() {
                Some(reason) => {
                    self.doubt(DoubtedRecord { record, message: reason.clone(), reason })
                }
                None => self.add_stopped(record, None),
            };
        };
        match verdict {
            Ok(verified) => {
                if verified.init.parent <= 1 {
                    self.orphans.insert(pid);
                }
                let parent = HostPid::new(verified.init.parent);
                self.parents_of_named.extend(parent.filter(|_| !record.engine.low_level));
                if let Some(index) = self.by_init.get(&pid) {
                    let known = &mut self.inventory.containers[*index];
                    known.evidence.extend(verified.evidence);
                    let remark = known.remark.take().or(record.sandbox.map(sandbox_remark));
                    // The earlier in the table names it; the other record supports and completes it.
                    if precedence(record.engine) < precedence(known.engine) {
                        known.engine = record.engine;
                        known.cgroup = verified.cgroup.or(known.cgroup.take());
                        describe(known, record);
                    } else {
                        known.cgroup = known.cgroup.take().or(verified.cgroup);
                        if record.engine == known.engine {
                            known.image = known.image.take().or(record.image);
                            known.compose = known
                                .compose
                                .take()
                                .or_else(|| record.labels.as_ref().and_then(compose));
                            known.labels = known.labels.take().or(record.labels);
                            known.stop = std::mem::take(&mut known.stop).or(record.stop);
                        }
                    }
                    known.remark = remark;
                    return;
                }
                let mut container = assemble(
                    verified.state,
                    record.engine,
                    &verified.init,
                    verified.cgroup,
                    verified.evidence,
                );
                describe(&mut container, record);
                container.verified = true;
                self.push(container);
            }
            Err(VerifyError::Ended) => self.add_stopped(record, None),
            Err(VerifyError::Unreadable) => self.note_unread(&record, pid),
            Err(VerifyError::Refuted(reason)) => {
                let path = record.path.display();
                let message = format!("the record `{path}` is not trusted: {reason}");
                self.doubt(DoubtedRecord { record, reason, message });
            }
        }
    }

    /// Notes a record that is not trusted. As long as others may still be found that confirm it, such as the
    /// runtime's, it is verified again with these.
    fn doubt(&mut self, doubted: DoubtedRecord) {
        if self.is_sampling {
            return self.doubted.push(doubted);
        }
        let DoubtedRecord { record, reason, message } = doubted;
        self.diagnose(record.owner, message);
        self.add_stopped(record, Some(reason));
    }

    /// Notes the doubted records that nothing else was read to confirm.
    pub(super) fn settle_doubts(&mut self) {
        for doubted in std::mem::take(&mut self.doubted) {
            self.doubt(doubted);
        }
    }

    /// Notes that the process of a record could not be read. (Without root most of other users' cannot, and a
    /// note reports that.)
    fn note_unread(&self, record: &Record, pid: HostPid) {
        if nix::unistd::geteuid().is_root() {
            let path = record.path.display();
            let message =
                format!("the record `{path}` was not verified: process {pid} cannot be read");
            self.diagnostics
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .add(record.owner, message);
        }
    }

    fn add_stopped(&mut self, record: Record, doubt: Option<String>) {
        let cgroup = record.cgroup.clone();
        let init = record.pid.map(|pid| ProcessId { pid, start: record.start.unwrap_or(Ticks(0)) });
        let mut container =
            Container { verified: doubt.is_none(), ..Container::not_running(record.engine) };
        describe(&mut container, record);
        container.remark = None;
        self.inventory.stopped.push(StoppedContainer { container, cgroup, init, doubt });
    }
}

fn key(record: &Record) -> RecordKey {
    (record.path.clone(), record.id.clone(), record.owner, record.pid)
}

/// Fills in PIDs that are not trusted from the records of the OCI runtime below the engine, if these are
/// trusted no less.
fn fill_pids(records: &mut [Record]) {
    let runtimes: Vec<Record> =
        records.iter().filter(|record| record.engine.low_level).cloned().collect();
    for record in records.iter_mut().filter(|record| record.doubt.is_some()) {
        let is_below = |engine| record.engine.start_times_from.contains(engine);
        let same = runtimes.iter().find(|runtime| {
            is_below(&runtime.engine)
                && runtime.id == record.id
                && runtime.owner.and(record.owner) == record.owner
        });
        if let Some(runtime) = same {
            (record.pid, record.start) = (runtime.pid, runtime.start);
        }
    }
}

/// Fills in start times that an engine's own records lack, from those of the runtime below it.
fn fill_start_times(records: &mut [Record]) {
    let starts: HashMap<(String, HostPid, Trust), Ticks> =
        records.iter().filter_map(|r| Some(((r.id.clone(), r.pid?, r.owner), r.start?))).collect();
    for record in records.iter_mut().filter(|record| record.start.is_none()) {
        let Some(pid) = record.pid else { continue };
        let start_by = |owner| starts.get(&(record.id.clone(), pid, owner));
        record.start = start_by(record.owner).or_else(|| start_by(Trust::Root)).copied();
    }
}

/// Describes a container by its record.
fn describe(container: &mut Container, record: Record) {
    container.id = Some(record.id);
    container.name = record.name;
    container.aliases = record.aliases;
    container.namespace = record.namespace;
    container.pod = record.pod;
    container.image = record.image;
    container.compose = record.labels.as_ref().and_then(compose);
    container.labels = record.labels;
    container.stop = record.stop;
    container.record = Some(record.path);
    container.user = record.owner.user();
    container.remark = record.sandbox.map(sandbox_remark).or(container.remark.take());
}
