//! The limits of control messages and log batches, and their round trips.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use prost::Message as _;
use weave_wire::codec::{
    MAX_BATCH_LEN, MAX_BATCHES, MAX_CONTROL_LEN, MAX_LOG_VERSIONS, MAX_PROBE_LEN, check_entry,
    encode_path_probe,
};
use weave_wire::proto::{
    Batch, ControlMessage, Delta, Digest, EndpointRecord, Entry, Finding, Founding, GenesisRecord,
    Goodbye, Hello, Inquiry, InquiryReply, LogVersion, NameRecord, PathProbe, PeerRecord,
    RekeyReply, RekeyRequest, SignedBatch, SocketAddress, SubnetRecord, control_message::Body,
    entry,
};
use weave_wire::{
    WireError, decode_batch, decode_control, from_proto_addr, ip_bytes, ip_from_bytes,
    mac_from_bytes, peer_id_from_bytes, proto_addr,
};

fn message(body: Body) -> Vec<u8> {
    ControlMessage { body: Some(body) }.encode_to_vec()
}

fn hello() -> Hello {
    Hello {
        peer: vec![1; 32],
        signature: vec![2; 64],
        boot: 3,
        nickname: "nyc".into(),
        observed: Some(SocketAddress {
            ip: vec![192, 0, 2, 1],
            port: 6783,
        }),
        max_protocol: 1,
        capabilities: 0,
        version: "0.1.0".into(),
    }
}

fn batch(entries: Vec<Entry>) -> Batch {
    let origin = vec![7; 32];
    Batch {
        origin,
        boot: 1,
        snapshot: 0,
        first_seq: 1,
        snapshot_len: 1,
        entries,
    }
}

fn entry(body: entry::Body) -> Entry {
    Entry {
        slot: 1,
        body: Some(body),
    }
}

fn log_version() -> LogVersion {
    LogVersion {
        origin: vec![9; 32],
        boot: 0,
        snapshot: 0,
        seq: 0,
    }
}

#[test]
fn a_hello_with_fields_of_wrong_length_is_refused() {
    assert!(decode_control(&message(Body::Hello(hello()))).is_ok());
    let broken = [
        Hello {
            peer: vec![1; 31],
            ..hello()
        },
        Hello {
            signature: vec![],
            ..hello()
        },
        Hello {
            nickname: "x".repeat(256),
            ..hello()
        },
        Hello {
            version: "x".repeat(256),
            ..hello()
        },
        Hello {
            observed: Some(SocketAddress {
                ip: vec![1; 5],
                port: 1,
            }),
            ..hello()
        },
        Hello {
            observed: Some(SocketAddress {
                ip: vec![1; 4],
                port: 65536,
            }),
            ..hello()
        },
    ];
    for hello in broken {
        assert!(
            decode_control(&message(Body::Hello(hello.clone()))).is_err(),
            "{hello:?}"
        );
    }
}

#[test]
fn a_message_over_the_size_limit_is_refused_unread() {
    let bytes = vec![0xff; MAX_CONTROL_LEN + 1];
    let error = decode_control(&bytes).expect_err("too long");
    let expected = WireError::TooMany {
        field: "control message",
        len: MAX_CONTROL_LEN + 1,
        most: MAX_CONTROL_LEN,
    };
    assert_eq!(error, expected);
    assert!(decode_batch(&vec![0; MAX_BATCH_LEN + 1]).is_err());
}

#[test]
fn a_rekey_request_has_one_key_and_a_reply_one_or_both_of_their_lengths() {
    let request = |public_key, kem_key| {
        let request = RekeyRequest {
            epoch: u32::MAX,
            public_key: vec![1; public_key],
            kem_key: vec![2; kem_key],
        };
        decode_control(&message(Body::RekeyRequest(request))).is_ok()
    };
    let reply = |public_key, kem_ciphertext| {
        let reply = RekeyReply {
            epoch: u32::MAX,
            public_key: vec![1; public_key],
            kem_ciphertext: vec![2; kem_ciphertext],
        };
        decode_control(&message(Body::RekeyReply(reply))).is_ok()
    };
    assert!(request(32, 0) && request(0, 1_184));
    for (public_key, kem_key) in [(0, 0), (31, 0), (0, 1_183), (0, 1_185), (1, 1_184), (32, 1)] {
        assert!(!request(public_key, kem_key), "{public_key}, {kem_key}");
    }
    assert!(reply(32, 0) && reply(32, 1_088));
    for (public_key, ciphertext) in [(0, 1_088), (31, 0), (32, 1), (32, 1_087), (32, 1_089)] {
        assert!(!reply(public_key, ciphertext), "{public_key}, {ciphertext}");
    }
}

#[test]
fn an_inquiry_is_about_an_address_or_about_none_and_its_answer_is_short() {
    let asked = |ip: Vec<u8>| {
        let (request_id, segment) = (1, 2);
        decode_control(&message(Body::Inquiry(Inquiry {
            request_id,
            segment,
            ip,
            stand_in: false,
        })))
    };
    for len in [0, 4, 16] {
        asked(vec![1; len]).unwrap();
    }
    for len in [1, 5, 17] {
        assert!(matches!(
            asked(vec![1; len]),
            Err(WireError::FieldLen { .. })
        ));
    }
    let answered = |len| {
        let detail = "x".repeat(len);
        let station = Some(Finding { outcome: 7, detail });
        decode_control(&message(Body::InquiryReply(InquiryReply {
            station,
            ..InquiryReply::default()
        })))
    };
    answered(255).unwrap();
    assert!(matches!(answered(256), Err(WireError::TooMany { .. })));
}

#[test]
fn a_path_probe_alone_may_be_longer() {
    for len in [200, MAX_CONTROL_LEN, MAX_CONTROL_LEN + 1, MAX_PROBE_LEN] {
        let probe = encode_path_probe(7, len);
        assert_eq!(probe.len(), len);
        let Some(Body::PathProbe(PathProbe { nonce: 7, .. })) =
            decode_control(&probe).expect("readable").body
        else {
            panic!("{len} bytes are something else");
        };
    }
    let too_long = encode_path_probe(7, MAX_PROBE_LEN + 1);
    assert!(decode_control(&too_long).is_err());
    // the last body counts
    let disguised = [
        encode_path_probe(7, MAX_CONTROL_LEN),
        message(Body::Hello(hello())),
    ]
    .concat();
    let error = decode_control(&disguised).expect_err("too long for a hello");
    assert!(matches!(
        error,
        WireError::TooMany {
            most: MAX_CONTROL_LEN,
            ..
        }
    ));
}

#[test]
fn repeated_fields_are_capped() {
    let signed = SignedBatch {
        payload: vec![],
        signature: vec![0; 64],
    };
    let delta = |count| {
        message(Body::Delta(Delta {
            batches: vec![signed.clone(); count],
        }))
    };
    assert!(decode_control(&delta(MAX_BATCHES)).is_ok());
    assert!(decode_control(&delta(MAX_BATCHES + 1)).is_err());
    let digest = |count| {
        let logs = vec![
            LogVersion {
                origin: vec![],
                ..log_version()
            };
            count
        ];
        decode_control(&message(Body::Digest(Digest {
            logs,
            more: false,
            from: vec![],
            last: vec![],
            news: false,
        })))
    };
    assert!(matches!(
        digest(MAX_LOG_VERSIONS + 1),
        Err(WireError::TooMany { field: "logs", .. })
    ));
    assert!(matches!(
        digest(1),
        Err(WireError::FieldLen {
            field: "origin",
            ..
        })
    ));
}

#[test]
fn messages_of_a_later_version_have_no_body_and_are_no_error() {
    // Field 99, length-delimited, two bytes.
    let unknown = [0x9a, 0x06, 0x02, 1, 2];
    assert_eq!(decode_control(&unknown).expect("readable").body, None);
    let extended = [message(Body::Hello(hello())), unknown.to_vec()].concat();
    assert_eq!(
        decode_control(&extended).expect("readable").body,
        Some(Body::Hello(hello()))
    );
}

#[test]
fn a_batch_needs_an_origin_entries_and_room_for_its_numbers() {
    let good = batch(vec![Entry {
        slot: 1,
        body: None,
    }]);
    assert_eq!(decode_batch(&good.encode_to_vec()), Ok(good.clone()));
    let broken = [
        Batch {
            origin: vec![7; 33],
            ..good.clone()
        },
        Batch {
            first_seq: 0,
            ..good.clone()
        },
        Batch {
            first_seq: u64::MAX,
            ..good.clone()
        },
        Batch {
            entries: vec![],
            ..good
        },
    ];
    for batch in broken {
        assert!(decode_batch(&batch.encode_to_vec()).is_err(), "{batch:?}");
    }
}

#[test]
fn entries_that_no_reader_could_use_are_told() {
    use entry::Body as Log;
    let endpoint = EndpointRecord {
        mac: vec![2; 6],
        ips: vec![vec![10, 0, 0, 1]],
        ..Default::default()
    };
    let name = NameRecord {
        name: "a.weave.local".into(),
        ip: vec![10, 0, 0, 1],
        container: String::new(),
    };
    let subnet = SubnetRecord {
        ip: vec![10, 32, 0, 0],
        prefix_len: 12,
        segment: 1,
        strict: false,
        ..Default::default()
    };
    let genesis = GenesisRecord {
        range_ip: vec![10, 32, 0, 0],
        range_prefix_len: 12,
        founded_at: 0,
        chunk_prefix_len: 26,
    };
    let founding = Founding {
        founder: vec![1; 32],
        genesis: Some(genesis.clone()),
    };
    let peer = PeerRecord {
        static_key: vec![1; 32],
        neighbours: vec![vec![1; 8]],
        founding: Some(Box::new(founding.clone())),
        ..Default::default()
    };
    let good = [
        Log::Endpoint(endpoint.clone()),
        Log::Name(name.clone()),
        Log::Subnet(subnet.clone()),
        Log::Genesis(genesis.clone()),
        Log::Peer(peer.clone()),
    ];
    for body in good {
        assert_eq!(check_entry(&entry(body.clone())), Ok(()), "{body:?}");
    }
    assert_eq!(
        check_entry(&Entry {
            slot: 1,
            body: None
        }),
        Ok(())
    );
    let broken = [
        Log::Endpoint(EndpointRecord {
            mac: vec![2; 5],
            ..endpoint.clone()
        }),
        Log::Endpoint(EndpointRecord {
            ips: vec![vec![1; 4]; 9],
            ..endpoint.clone()
        }),
        Log::Endpoint(EndpointRecord {
            ips: vec![vec![1; 3]],
            ..endpoint
        }),
        Log::Name(NameRecord {
            name: "x".repeat(254),
            ..name.clone()
        }),
        Log::Name(NameRecord { ip: vec![], ..name }),
        Log::Subnet(SubnetRecord {
            prefix_len: 33,
            ..subnet.clone()
        }),
        Log::Subnet(SubnetRecord {
            ipv6: vec![0xfd; 4],
            ..subnet
        }),
        Log::Genesis(GenesisRecord {
            range_ip: vec![0; 16],
            ..genesis.clone()
        }),
        Log::Genesis(GenesisRecord {
            chunk_prefix_len: 33,
            ..genesis
        }),
        Log::Peer(PeerRecord {
            static_key: vec![],
            ..peer.clone()
        }),
        Log::Peer(PeerRecord {
            neighbours: vec![vec![1; 8]; 17],
            ..peer.clone()
        }),
        Log::Peer(PeerRecord {
            neighbours: vec![vec![1; 7]],
            ..peer.clone()
        }),
        Log::Peer(PeerRecord {
            founding: Some(Box::new(Founding {
                founder: vec![1; 16],
                ..founding.clone()
            })),
            ..peer.clone()
        }),
        Log::Peer(PeerRecord {
            founding: Some(Box::new(Founding {
                genesis: None,
                ..founding
            })),
            ..peer
        }),
    ];
    for body in broken {
        assert!(check_entry(&entry(body.clone())).is_err(), "{body:?}");
    }
}

#[test]
fn bytes_of_wrong_length_are_no_address() {
    assert!(ip_from_bytes(&[0; 5]).is_err());
    assert!(mac_from_bytes(&[0; 7]).is_err());
    assert!(peer_id_from_bytes(&[0; 31]).is_err());
    assert!(
        from_proto_addr(&SocketAddress {
            ip: vec![1; 4],
            port: 0
        })
        .is_err()
    );
}

proptest! {
    #[test]
    fn addresses_survive_messages(ip: IpAddr, port in 1..=u16::MAX) {
        prop_assert_eq!(ip_from_bytes(&ip_bytes(ip)), Ok(ip));
        let addr = SocketAddr::new(ip, port);
        prop_assert_eq!(from_proto_addr(&proto_addr(addr)), Ok(addr));
    }

    #[test]
    fn a_path_probe_has_the_length_asked_for(nonce: u64, len in 200..=MAX_PROBE_LEN) {
        let probe = encode_path_probe(nonce, len);
        prop_assert_eq!(probe.len(), len);
        let body = decode_control(&probe).expect("readable").body;
        prop_assert!(matches!(body, Some(Body::PathProbe(probe)) if probe.nonce == nonce));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
        let _ = decode_control(&bytes);
        if let Ok(batch) = decode_batch(&bytes) {
            batch.entries.iter().for_each(|entry| drop(check_entry(entry)));
        }
    }

    #[test]
    fn damaged_messages_never_panic(
        reason in "[a-z]{0,200}", flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let hello = message(Body::Hello(hello()));
        let goodbye = message(Body::Goodbye(Goodbye { reason, stays: false }));
        for mut bytes in [hello, goodbye] {
            for (index, value) in &flips {
                let at = index.index(bytes.len());
                bytes[at] = *value;
            }
            let _ = decode_control(&bytes);
        }
    }
}
