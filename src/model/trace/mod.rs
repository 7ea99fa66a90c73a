//! The kernel's record of signals and of processes that begin and end, as its tracepoints and
//! perf_event_open(2) write it: parsed, with nothing looked up.

mod format;
mod record;

pub use format::TracepointFormat;
pub use record::{KernelEvent, TraceFilters, TraceFormats, TraceRecord, parse_record};
