//! Pairs and triples of session layers in virtual time.

mod abuse;
mod net;
mod opening;
mod paths;
mod post_quantum;
mod robust;
mod rotation;
mod standing;
mod traffic;
mod versions;
