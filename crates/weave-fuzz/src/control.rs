//! Control messages of peers to a node that has sessions with them, and what else may happen
//! between, in the steps of [`Scene::play`].

use std::time::Duration;

use crate::scene::Scene;

/// The fields of `ControlMessage` in `control.proto`, and one that is of a later version.
const KINDS: [u8; 19] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 20, 21, 22, 30,
];

pub(crate) fn run(data: &[u8]) {
    Scene::play(data, |scene, what, detail, bytes| match what % 8 {
        0 => scene.say_again(detail, bytes),
        1 | 2 => scene.say(what, message(detail, bytes)),
        3 => scene.say(detail, bytes.to_vec()),
        4 => scene.command(detail, bytes.first().copied().unwrap_or_default()),
        5 => scene.greet(detail % 2 == 1, bytes),
        6 => scene.knock(detail, bytes),
        _ => scene.wait(Duration::from_millis(1 << (detail % 16))),
    });
}

/// A message of one kind whose fields are these bytes.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let kind = KINDS[usize::from(kind) % KINDS.len()];
    let mut message = Vec::new();
    // key and length are numbers alike
    for number in [usize::from(kind) << 3 | 2, body.len()] {
        prost::encode_length_delimiter(number, &mut message).expect("a vector has room");
    }
    message.extend_from_slice(body);
    message
}
