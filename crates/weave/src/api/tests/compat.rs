//! What scripts written for Weave Net send, and what they get.

use super::*;

/// Sends what `curl -X METHOD` does; status and body.
async fn curl(rig: &Rig, method: &str, path: &str) -> (String, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\naccept: */*\r\n\r\n");
    let (status, body) = raw(&rig.socket, &request).await;
    (status[9..12].to_owned(), body)
}

/// The same with `-d BODY`.
async fn form(rig: &Rig, method: &str, path: &str, body: &str) -> (String, String) {
    let kind = "application/x-www-form-urlencoded";
    let (status, body) = raw(&rig.socket, &request(method, path, kind, body)).await;
    (status[9..12].to_owned(), body)
}

fn ok(body: &str) -> (String, String) {
    ("200".to_owned(), body.to_owned())
}

#[tokio::test]
async fn the_state_is_text_as_the_command_line_prints_it() {
    let rig = rig_of(Fake::full());
    let report = crate::cli::view::tests::full();
    let text = crate::cli::view::status(&report);
    assert_eq!(curl(&rig, "GET", "/status").await, ok(&text));
    for (section, text) in [
        ("targets", crate::cli::view::targets(&report.router.targets)),
        (
            "connections",
            crate::cli::view::connections(&report.router.connections),
        ),
        ("peers", crate::cli::view::peers(&report.router)),
        ("dns", crate::cli::view::dns(report.dns.as_ref())),
        ("ipam", crate::cli::view::ipam(report.ipam.as_ref())),
    ] {
        let path = format!("/status/{section}");
        assert_eq!(curl(&rig, "GET", &path).await, ok(&text), "{section}");
    }
}

#[tokio::test]
async fn the_report_takes_fields_in_the_spelling_of_weave_net() {
    let rig = rig_of(Fake::full());
    let asked = "/report?format=%7B%7B.Router.Name%7D%7D+%7B%7Bjson+.Router.Port%7D%7D";
    assert_eq!(curl(&rig, "GET", asked).await, ok("4a:0f:f6:ec:1c:93 6783"));
    let (status, body) = curl(&rig, "GET", "/report?format=nosuch").await;
    assert_eq!(status, "400");
    assert!(body.contains("has no `nosuch`"), "{body}");
}

#[tokio::test]
async fn peers_come_as_a_form_or_in_the_query() {
    let rig = rig_of(Fake::full());
    let asked = form(
        &rig,
        "POST",
        "/connect",
        "peer=a%3A7000&peer=b&replace=true",
    )
    .await;
    assert_eq!(asked, ok(""));
    assert_eq!(curl(&rig, "POST", "/connect?peer=c").await, ok(""));
    let (status, body) = form(&rig, "POST", "/connect", "peer=d&peer=%3Fe").await;
    assert_eq!((status.as_str(), body.as_str()), ("400", "?e: no peer\n"));
    assert_eq!(form(&rig, "POST", "/forget", "peer=a").await, ok(""));
    assert_eq!(
        rig.fake.asked(),
        [
            "connect [\"a:7000\", \"b\"] true",
            "connect [\"c\"] false",
            "connect [\"d\", \"?e\"] false",
            "forget [\"a\"]",
        ]
    );
}

#[tokio::test]
async fn an_address_that_is_there_already_is_answered_and_another_one_is_attached() {
    let rig = rig_of(Fake::full());
    assert_eq!(curl(&rig, "POST", "/ip/db").await, ok("10.32.0.1/12"));
    assert_eq!(curl(&rig, "GET", "/ip/db").await, ok("10.32.0.1/12"));
    let (status, body) = curl(&rig, "GET", "/ip/db/10.99.0.0/24").await;
    assert_eq!(status, "404");
    assert!(
        body.contains("`db` has no address of 10.99.0.0/24"),
        "{body}"
    );
    let path = "/ip/db/10.2.1.0/24?check-alive=true";
    assert_eq!(curl(&rig, "POST", path).await, ok("10.32.0.1/24"));
    for (method, path) in [
        ("PUT", "/ip/web/10.32.0.9/12"),
        ("PUT", "/ip/weave:expose/10.32.0.8/12"),
        ("POST", "/expose/10.32.0.7/12?skipNAT=true"),
        ("DELETE", "/ip/db/10.32.0.1"),
        ("DELETE", "/ip/weave:expose"),
    ] {
        let answer = curl(&rig, method, path).await;
        assert_eq!(answer, ("204".to_owned(), String::new()), "{method} {path}");
    }
    let asked = rig.fake.asked();
    for expected in [
        "attach [Subnet { network: 10.2.1.0, prefix_len: 24 }]",
        "attach [Address { ip: 10.32.0.9, prefix_len: 12 }]",
        "expose ExposeRequest { addresses: [Address { ip: 10.32.0.8, prefix_len: 12 }], names: [], masquerade: true }",
        "expose ExposeRequest { addresses: [Address { ip: 10.32.0.7, prefix_len: 12 }], names: [], masquerade: false }",
        "detach [Address { ip: 10.32.0.1, prefix_len: 12 }]",
        "hide []",
    ] {
        assert!(
            asked.iter().any(|one| one == expected),
            "{expected}: {asked:#?}"
        );
    }
}

#[tokio::test]
async fn names_are_given_and_taken_by_container_address_and_fqdn() {
    let rig = rig_of(Fake::full());
    let fqdn = "fqdn=sql.weave.local";
    let done = ("204".to_owned(), String::new());
    assert_eq!(form(&rig, "PUT", "/name/db/10.32.0.1", fqdn).await, done);
    let path = format!("/name/weave:extern/192.0.2.1?{fqdn}");
    assert_eq!(curl(&rig, "PUT", &path).await, done);
    assert_eq!(curl(&rig, "DELETE", &path).await, done);
    assert_eq!(curl(&rig, "DELETE", "/name/db").await, done);
    let (status, body) = curl(&rig, "PUT", "/name/db/10.32.0.1").await;
    assert_eq!(
        (status.as_str(), body.as_str()),
        ("400", "no name given: fqdn=NAME\n")
    );
    let (status, body) = curl(&rig, "DELETE", "/name").await;
    assert_eq!(status, "400", "{body}");
    assert!(body.starts_with("neither a container nor a name"), "{body}");
    assert_eq!(
        rig.fake.asked(),
        [
            "dns-add Some(\"db\")",
            "dns-add None",
            "dns-remove [\"sql.weave.local\"]",
            "dns-remove []",
        ]
    );
}

#[tokio::test]
async fn what_is_gone_says_what_replaced_it() {
    let rig = rig_of(Fake::full());
    for (method, path, word) in [
        ("DELETE", "/peer", "/reset"),
        ("GET", "/proxyaddrs", "Docker"),
        ("GET", "/ipinfo/tracker", "AWS"),
        ("GET", "/debug/pprof", "/metrics"),
    ] {
        let (status, body) = curl(&rig, method, path).await;
        assert_eq!(status, "410", "{path}");
        assert_eq!(body.lines().count(), 1, "{body}");
        assert!(body.contains(word) && body.contains("gone"), "{body}");
    }
}

#[tokio::test]
async fn a_router_without_dns_or_addresses_says_so() {
    let rig = rig_of(Fake::bare());
    for (path, word) in [
        ("/domain", "--no-dns"),
        ("/dns-address", "--no-dns"),
        ("/name", "--no-dns"),
        ("/ipinfo/defaultsubnet", "allocates no addresses"),
        ("/ring", "no addresses can be given out yet: patience"),
    ] {
        let (status, body) = curl(&rig, "GET", path).await;
        assert_eq!(status, "503", "{path}");
        assert!(body.contains(word), "{path}: {body}");
    }
    let mut report = crate::cli::view::tests::full();
    if let Some(dns) = &mut report.dns {
        dns.address = vec!["169.254.53.53:53".to_owned()];
    }
    let rig = rig_of(Fake {
        report,
        ..Fake::full()
    });
    let (status, body) = curl(&rig, "GET", "/dns-address").await;
    assert_eq!(status, "503");
    assert!(body.contains("networks of weave only"), "{body}");
}
