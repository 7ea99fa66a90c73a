//! The cgroup tree as it is mounted: which hierarchies there are, the cgroups in them, their freezers and
//! their limits. Everything here reads, but for [`FreezerFile::set`].

mod below;
mod freezer;
pub(super) mod hierarchy;
mod stats;
mod tree;

pub use freezer::FreezerFile;
pub use stats::{LimitedValue, ResourceUsage};
pub use tree::{CgroupEntry, LiveCgroup};
