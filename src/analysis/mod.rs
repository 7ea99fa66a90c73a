//! Pure answers: facts in, answer out. No file, no syscall, no printing, so that each has its tests
//! right under it and none needs a container.

pub mod diagnosis;
pub mod entry;
pub mod membership;
pub mod portrait;
pub mod runtimes;
pub mod selection;
pub mod transfer;
pub mod verdict;
