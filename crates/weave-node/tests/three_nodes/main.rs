//! Three nodes on a network and disks in memory.

mod mesh;
mod relay;
mod together;
