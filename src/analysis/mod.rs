//! Pure answers: facts in, answer out. No file, no syscall, no printing, so that each has its tests
//! right under it and none needs a container.

pub mod container_process;
pub mod copy_rules;
pub mod delivery;
pub mod diagnosis;
pub mod exec_plan;
pub mod inspection;
pub mod programs;
pub mod selection;
pub mod user;
