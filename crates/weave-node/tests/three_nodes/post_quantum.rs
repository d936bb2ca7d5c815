//! Peers of which one requires the post-quantum key exchange, and another has it off.

use weave_node::{ConnectionStatus, Retry};

use super::*;

const REQUIRED: &str =
    "refused: it requires the post-quantum key exchange, this router has --pq off";
const LACKS: &str =
    "refused: it has no post-quantum key exchange, which this router requires (--pq require)";

impl Mesh {
    /// The first host takes what it gets, the second requires it, the third has it off.
    fn at_odds() -> Self {
        Self::configured(|number, config| {
            config.pq = match number {
                0 => PostQuantum::Prefer,
                1 => PostQuantum::Require,
                _ => PostQuantum::Off,
            };
        })
    }

    /// All that a host says of its connection with another.
    fn lines(&self, host: usize, to: usize) -> Vec<ConnectionStatus> {
        let (peer, addr) = (
            self.hosts[to].node.id(),
            addr_of(u8::try_from(to).expect("three hosts")).to_string(),
        );
        let lines = self.status(host).connections.into_iter();
        lines
            .filter(|line| line.peer == Some(peer) || line.address == addr)
            .collect()
    }

    /// Whether each says of the other why there is no connection, once.
    fn both_know_why(&self) -> bool {
        [(1, 2, LACKS), (2, 1, REQUIRED)]
            .iter()
            .all(|(host, to, why)| {
                let lines = self.lines(*host, *to);
                lines.len() == 1 && lines[0].info == *why
            })
    }
}

#[test]
fn who_requires_it_and_who_has_it_off_know_why_they_are_not_connected_and_leave_it_at_that() {
    for is_cut in [false, true] {
        let mut mesh = Mesh::at_odds();
        mesh.set_cut(1, 2, is_cut);
        mesh.run_until(10 * SECOND, Mesh::both_know_why);
        mesh.run(60 * SECOND);
        let begin = mesh.sent.len();
        mesh.run(300 * SECOND);
        assert!(mesh.both_know_why(), "{:?}", mesh.lines(1, 2));
        for (host, to) in [(1, 2), (2, 1)] {
            let line = &mesh.lines(host, to)[0];
            assert_eq!(line.state, ConnectionState::Failed);
            assert_eq!((line.retry, line.relay), (Some(Retry::Never), None));
            assert_eq!(mesh.status(host).peers.len(), 3, "it is known all the same");
        }
        let tried = mesh.sent[begin..]
            .iter()
            .filter(|ty| **ty != DatagramType::Sealed);
        assert_eq!(tried.count(), 0, "nobody dials or relays in vain");
    }
}

#[test]
fn when_one_of_them_changes_its_mind_they_connect() {
    let mut mesh = Mesh::at_odds();
    mesh.run_until(10 * SECOND, Mesh::both_know_why);
    mesh.run(30 * SECOND);
    // a host that is started again prefers it
    mesh.restart(2);
    let took = mesh.run_until(60 * SECOND, Mesh::is_full);
    assert!(took < 5 * SECOND, "{took:?}");
}
