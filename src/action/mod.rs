//! Actions: they carry out a decision, and verify first that their target still is the intended one.
//! Results are typed; `output` makes text of them.

pub mod copy;
pub mod exec;
pub mod freeze;
pub mod send;
pub mod signal_many;
pub mod signal_target;
pub mod stop;
