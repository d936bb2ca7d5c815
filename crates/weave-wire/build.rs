//! Compiles the control and log messages of `proto/weave/v1`; no system `protoc` is needed.

use std::error::Error;
use std::path::Path;

const ROOT: &str = "../../proto";
const FILES: [&str; 2] = ["weave/v1/log.proto", "weave/v1/control.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!(
            "cargo::rerun-if-changed={}",
            Path::new(ROOT).join(file).display()
        );
    }
    let descriptors = protox::compile(FILES, [ROOT])?;
    prost_build::Config::new()
        // the largest of all entries would be larger still
        .boxed(".weave.v1.PeerRecord.founding")
        .compile_fds(descriptors)?;
    Ok(())
}
