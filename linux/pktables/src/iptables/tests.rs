use super::{save::Saved, *};

const SCRIPT: &str = "*filter\n:pk-ssh - [0:0]\n-A INPUT -p tcp -m tcp --dport 22 -j pk-ssh\n";

/// A service of one family, with these rules in its chain.
fn found(rules: &str) -> Parsed {
    let saved = Saved::parse(&format!("{SCRIPT}{rules}COMMIT\n"));
    let name = "ssh".parse().expect("a name");
    parsed::parse(&saved, &name).expect("it parses").expect("it exists")
}

#[test]
fn addresses_and_forwards_belong_to_their_family() {
    let (four, six) = ("192.168.1.10:22", "[fd00::10]:22");
    let places: [&[&str]; 4] = [&[], &[four], &[six], &[four, six]];
    // forward address of the family, for each row of addresses above
    let rows = [
        (Family::V4, "192.0.2.0/24", [None, Some(four), None, Some(four)]),
        (Family::V6, "2001:db8::/32", [None, None, Some(six), Some(six)]),
    ];
    for (family, address, expected) in rows {
        assert_eq!(Family::of(address.parse().expect("a prefix")), family);
        let mut service = found("-A pk-ssh -j DROP\n").service;
        for (places, expected) in places.iter().zip(expected) {
            service.forward =
                places.iter().map(|place| place.parse().expect("an address and port")).collect();
            let place = family.forward(&service).map(|forward| forward.to_string());
            assert_eq!(place.as_deref(), expected, "{family:?} {places:?}");
        }
    }
}

#[test]
fn both_families_are_one_listing() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10);
    let v4 = "[3:9] -A pk-ssh -s 192.0.2.7/32 -j ACCEPT\n\
              [4:9] -A pk-ssh -s 192.0.2.1/32 -m comment --comment \"pktables until 15\" -j ACCEPT\n\
              [5:9] -A pk-ssh -j DROP\n";
    let v6 = "[6:9] -A pk-ssh -s 2001:db8::7/128 -m comment --comment \"pktables until 9\" -j ACCEPT\n\
              [7:9] -A pk-ssh -j DROP\n";
    let listing = join(vec![found(v4), found(v6)], now).expect("they are equal").expect("it exists");
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let grants: Vec<_> =
        listing.grants.iter().map(|grant| (grant.address.to_string(), grant.left, grant.packets)).collect();
    let expected = [
        ("192.0.2.1/32", seconds(5), Some(4)),
        ("192.0.2.7/32", None, Some(3)),
        ("2001:db8::7/128", seconds(0), Some(6)),
    ];
    assert_eq!(grants, expected.map(|(address, left, packets)| (address.to_owned(), left, packets)));
    assert_eq!((listing.default_packets, listing.service), (Some(12), found(v4).service));
    assert_eq!(join(Vec::new(), now).expect("they are equal"), None);
}

#[test]
fn families_may_differ_only_in_the_forward_address() {
    let now = SystemTime::UNIX_EPOCH;
    let with = |place: &str| {
        let mut found = found("-A pk-ssh -j DROP\n");
        found.service.forward = vec![place.parse().expect("an address and port")];
        found
    };
    let (four, six) = ("192.168.1.10:22", "[fd00::10]:22");
    let listing = join(vec![with(four), with(six)], now).expect("they are equal").expect("it exists");
    let places: Vec<String> = listing.service.forward.iter().map(ToString::to_string).collect();
    assert_eq!(places, [four, six]);
    let error = join(vec![found("-A pk-ssh -j DROP\n"), found("-A pk-ssh -j ACCEPT\n")], now);
    let error = error.map(drop).map_err(|error| error.to_string());
    let part = "chain pk-ssh differs in ip6tables; repair it with pktables init ssh";
    assert_eq!(error, Err(format!("cannot parse iptables rules: {part}")));
}
