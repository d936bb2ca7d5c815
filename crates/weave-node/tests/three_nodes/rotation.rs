//! The password changes while the mesh runs.

use super::*;

/// Holds these generations of the password and dials with the first.
fn passwords(generations: &[u16]) -> Passwords {
    let password = |generation: u16| {
        let [low, _] = generation.to_le_bytes();
        StretchedPassword::from_bytes([7 + low; 32])
    };
    let mut passwords = Passwords::new(generations[0], password(generations[0]));
    for generation in &generations[1..] {
        assert!(passwords.add(*generation, password(*generation)));
    }
    passwords
}

#[test]
fn the_password_is_rotated_and_nobody_notices() {
    let mut mesh = with_a_name_of_the_last();
    mesh.run(20 * SECOND);
    for (generations, order) in [
        (&[0, 1][..], [0, 1, 2]),
        (&[1, 0], [2, 0, 1]),
        (&[1], [1, 2, 0]),
    ] {
        for host in order {
            mesh.with(host, |node, now| {
                node.set_passwords(passwords(generations), now)
            });
            let end = mesh.now + 20 * SECOND;
            while mesh.step(end) {
                assert!(mesh.is_full() && (0..3).all(|host| mesh.knows_name(host)));
            }
        }
    }
    for host in 0..3 {
        let [only] = mesh.status(host).passwords[..] else {
            panic!("{:?}", mesh.status(host).passwords);
        };
        assert_eq!((only.generation, only.in_use, only.sessions), (1, true, 2));
    }
}
