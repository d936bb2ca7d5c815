//! The data path as its users see it: frames in, datagrams out, and back, through real lanes.

mod bench;
mod corpus;
mod offload;
mod pair;
mod receive;
mod relay;
mod send;
mod traffic;
