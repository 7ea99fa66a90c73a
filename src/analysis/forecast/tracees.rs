//! The processes that trace others. `TracerPid` is the TID of the thread that attached (`proc_pid_status`,
//! fs/proc/array.c), which need not be the main thread, and the threads of a process need not have been read.
//! Reads nothing: a thread that is not known may be of each process that has several.

use std::collections::HashMap;

use super::ForecastInput;

/// The tracers among the processes of a forecast.
pub(super) struct Tracees {
    /// For each tracer a process that it traces.
    known: HashMap<usize, usize>,
    /// Two processes at most whose tracer is a thread of an unknown process, in the container or outside of it.
    unattributed: Vec<usize>,
}

impl Tracees {
    /// Assigns each process that is traced to its tracer.
    pub fn of(input: &ForecastInput<'_>) -> Self {
        let mut tracees = Self { known: HashMap::new(), unattributed: Vec::new() };
        let tracer_of = |index: usize| input.processes[index].facts.status.tracer_pid;
        let traced = (0..input.processes.len())
            .filter(|index| tracer_of(*index) != 0 && input.is_running(*index));
        let traced: Vec<usize> = traced.collect();
        if traced.is_empty() {
            return tracees;
        }
        let mut owners = HashMap::new();
        for (index, process) in input.processes.iter().enumerate() {
            let facts = &process.facts;
            owners.insert(facts.id.pid.get(), index);
            owners.extend(facts.threads.iter().map(|thread| (thread.status.pid, index)));
            let waits = facts.waits.known().into_iter().flat_map(|waits| &waits.threads);
            owners.extend(waits.map(|thread| (thread.tid, index)));
        }
        for tracee in traced {
            match owners.get(&tracer_of(tracee)) {
                Some(tracer) => drop(tracees.known.entry(*tracer).or_insert(tracee)),
                // (No process traces itself: of two, one is another's.)
                None if tracees.unattributed.len() < 2 => tracees.unattributed.push(tracee),
                None => {}
            }
        }
        tracees
    }

    /// Returns a process that this one traces, or may trace, and whether it is known to.
    pub fn first(&self, input: &ForecastInput<'_>, process: usize) -> Option<(usize, bool)> {
        if let Some(tracee) = self.known.get(&process) {
            return Some((*tracee, true));
        }
        let has_threads = input.processes[process].facts.status.threads > 1;
        let mut others =
            self.unattributed.iter().filter(|tracee| has_threads && **tracee != process);
        others.next().map(|tracee| (*tracee, false))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use nix::time::{ClockId, clock_gettime};

    use super::*;
    use crate::analysis::container_process::{ContainerProcess, MemberProcess, UserTable, arrange};
    use crate::analysis::delivery::DeliveryContext;
    use crate::analysis::forecast::{Answer, Forecast, forecast};
    use crate::analysis::selection::tests::process;
    use crate::model::lookup::LookupStore;
    use crate::model::process::{Fact, Process, Thread};
    use crate::model::signal::Signal;
    use crate::model::signal_waiters::{ThreadWaits, Waits};
    use crate::model::stop_schedule::{StopOrder, StopProcedure, StopSchedule, StopStep};

    /// Returns a process below another, in a container whose PID 1 has the PID 100; with 0 it is not traced.
    fn traced(pid: i32, parent: i32, tracer: i32) -> Process {
        let mut process = process(pid, parent, pid - 99, "worker", 0);
        process.status.tracer_pid = tracer;
        let threads = vec![ThreadWaits::asleep(pid)];
        process.waits = Fact::Known(Waits { threads, all_threads: true, ..Waits::default() });
        process
    }

    fn arranged(processes: Vec<Process>) -> Vec<ContainerProcess> {
        let member =
            |process| MemberProcess { facts: Arc::new(process), in_container: true, pid_ns: None };
        let members = processes.into_iter().map(member).collect();
        arrange(members, 1, &UserTable { map: None, names: None })
    }

    /// Returns the forecast of a stop by TERM, which has no effect on a PID 1 without a handler.
    fn stopped(processes: &[ContainerProcess], has_init: bool, order: StopOrder) -> Forecast {
        let step = StopStep { signal: Signal::TERM, grace: Duration::from_secs(10) };
        let schedule = StopSchedule { steps: vec![step], kill: true, ..StopSchedule::default() };
        forecast(ForecastInput {
            processes,
            context: &DeliveryContext::default(),
            lookups: &LookupStore::default(),
            joined: &[],
            init: Some(processes[0].facts.id).filter(|_| has_init),
            owns_pid_ns: has_init,
            procedure: &StopProcedure { schedule, order, hook: None, doubt: None },
        })
    }

    fn exits(processes: Vec<Process>) -> Vec<Answer> {
        let forecast = stopped(&arranged(processes), true, StopOrder::Init);
        forecast.processes.iter().map(|process| process.exits).collect()
    }

    /// Returns the processor time that work takes in this thread.
    fn time_of<T>(work: impl FnOnce() -> T) -> (T, Duration) {
        let now = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
        let start = now();
        (work(), now() - start)
    }

    #[test]
    fn a_tracer_may_exit_with_its_tracee() {
        let processes = vec![traced(100, 1, 0), traced(101, 100, 0), traced(102, 100, 101)];
        // (PID 1 may notice that.)
        assert_eq!(exits(processes.clone()), [Answer::Maybe, Answer::Maybe, Answer::No]);
        let arranged = arranged(processes);
        let forecast = stopped(&arranged, true, StopOrder::Init);
        assert!(forecast.processes[1].why.ends_with("3 worker has, which it traces"));
        assert_eq!(forecast.graceful, Answer::No);
    }

    #[test]
    fn a_thread_that_is_not_known_may_be_of_each_process_with_threads() {
        let with_threads = |pid: i32| {
            let mut process = traced(pid, 100, 0);
            process.status.threads = 3;
            process
        };
        let mut processes =
            vec![traced(100, 1, 0), traced(101, 100, 0), with_threads(102), with_threads(103)];
        processes.push(traced(104, 100, 900));
        let expected = [Answer::Maybe, Answer::No, Answer::Maybe, Answer::Maybe, Answer::No];
        assert_eq!(exits(processes.clone()), expected);
        // The thread is known: no other process has it.
        let (stat, times) = (processes[2].stat.clone(), processes[2].times);
        let mut status = processes[2].status.clone();
        status.pid = 900;
        processes[2].threads = vec![Thread { times, stat, status }];
        let expected = [Answer::Maybe, Answer::No, Answer::Maybe, Answer::No, Answer::No];
        assert_eq!(exits(processes), expected);
    }

    #[test]
    fn a_process_with_threads_does_not_trace_itself() {
        let mut process = traced(101, 100, 900);
        process.status.threads = 3;
        assert_eq!(exits(vec![traced(100, 1, 0), process]), [Answer::No, Answer::No]);
    }

    #[test]
    fn tracees_are_not_followed() {
        // Each has a child and a process that it does not wait for, and both lead to the next one.
        let mut processes = vec![traced(100, 1, 0), traced(101, 100, 0)];
        let mut last = 101;
        for step in 0..40 {
            let first = 102 + 3 * step;
            processes.push(traced(first, last, 0));
            processes.push(traced(first + 1, last, 0));
            processes.push(traced(first + 2, first, first + 1));
            last = first + 2;
        }
        // A deeper one, which is decided first, traces the topmost.
        let mut parent = 100;
        for pid in 1000..1100 {
            processes.push(traced(pid, parent, 0));
            parent = pid;
        }
        processes[1].status.tracer_pid = parent;
        let arranged = arranged(processes);
        let (forecast, time) = time_of(|| stopped(&arranged, true, StopOrder::Init));
        assert_eq!(forecast.graceful, Answer::No);
        assert!(time < Duration::from_secs(1), "{time:?}");
    }

    #[test]
    fn many_tracers_cost_time_in_proportion() {
        const COUNT: i32 = 30_000;
        let mut processes = vec![traced(100, 1, 0)];
        // (Half of the tracers are threads that are not known.)
        let tracer = |pid: i32| if pid % 2 == 0 { pid - 1 } else { pid + 2 * COUNT };
        processes.extend((101..101 + COUNT).map(|pid| traced(pid, 100, tracer(pid))));
        let arranged = arranged(processes);
        for has_init in [true, false] {
            for order in [StopOrder::Init, StopOrder::All] {
                let (forecast, time) = time_of(|| stopped(&arranged, has_init, order));
                assert_eq!(forecast.processes.len(), arranged.len());
                assert!(time < Duration::from_secs(4), "{time:?}");
            }
        }
    }
}
