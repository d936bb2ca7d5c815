//! Batches of logs, signed as their origins sign them: what is in them is whatever a peer of the
//! mesh may write. In the steps of [`Scene::play`]; the second byte of each chooses the author.

use std::time::Duration;

use prost::Message as _;
use weave_wire::proto::control_message::Body;
use weave_wire::proto::{Batch, Digest, Pull};

use crate::input::changed;
use crate::scene::Scene;

pub(crate) fn run(data: &[u8]) {
    Scene::play(data, |scene, what, detail, bytes| match what % 8 {
        0 => scene.publish(detail, bytes.to_vec()),
        1 => {
            let known = scene.batch(detail / 4);
            write(scene, detail, false, &changed(&known.payload, bytes));
        }
        2..=4 => write(scene, detail, detail & 0x80 != 0, bytes),
        5 => {
            if let Ok(digest) = Digest::decode(bytes) {
                scene.say_body(Body::Digest(digest));
            }
        }
        6 => {
            if let Ok(pull) = Pull::decode(bytes) {
                scene.say_body(Body::Pull(pull));
            }
        }
        _ => scene.wait(Duration::from_millis(1 << (detail % 16))),
    });
}

/// The entries of an encoded batch as the next ones of an author's log, or the first of its next.
fn write(scene: &mut Scene, author: u8, is_anew: bool, batch: &[u8]) {
    if let Ok(batch) = Batch::decode(batch) {
        scene.write(author, is_anew, batch.entries);
    }
}
