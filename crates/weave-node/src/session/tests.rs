//! Pairs and triples of session layers in virtual time.

mod abuse;
mod net;
mod opening;
mod paths;
mod robust;
mod rotation;
mod standing;
mod versions;
