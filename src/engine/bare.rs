//! PID namespaces that no engine claims: bubblewrap, unshare(1) and others. Not in the engine table:
//! there are no records, and its containers are the namespaces that no engine has.

use crate::model::engine::{EngineInfo, ReferenceForm};

/// The descriptor of a bare PID namespace.
pub static BARE: EngineInfo = EngineInfo {
    name: "bare",
    display_name: "no engine",
    reference: ReferenceForm::Pid,
    keeps_records: false,
    output_hint: "its output goes where the program that started it sends it",
    ..EngineInfo::DEFAULT
};
