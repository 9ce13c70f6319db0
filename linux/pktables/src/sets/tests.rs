use super::*;
use crate::error::with_sources;

const PATH: SetPath<'_> = SetPath { table: "fw4", set: "s" };

fn number(kind: u16, number: u32) -> DefaultNla {
    DefaultNla::new(kind, number.to_be_bytes().to_vec())
}

#[test]
fn a_suitable_set_holds_single_addresses_with_a_timeout() {
    let sender = |address: &str, interface| {
        Sender::new(address.parse().expect("an address"), NonZeroU32::new(interface))
    };
    let (v4, v6, local) = (sender("192.0.2.7", 0), sender("2001:db8::7", 0), sender("fe80::7", 3));
    let interval = "has the interval flag; grants need a set without it";
    // flags, key length, sender, why it is unsuitable
    let rows = [
        (Some(16), Some(4), v4, None),
        (Some(16), Some(16), v6, None),
        // NFT_SET_EVAL and other flags are harmless.
        (Some(16 | 32), Some(4), v4, None),
        (Some(16), Some(16), v4, Some("does not hold IPv4 addresses")),
        (Some(16), Some(4), v6, Some("does not hold IPv6 addresses")),
        (Some(16), Some(8), v4, Some("does not hold IPv4 addresses")),
        (Some(16), None, v6, Some("does not hold IPv6 addresses")),
        (Some(16), Some(20), local, None),
        (Some(16), Some(20), v6, Some("does not hold IPv6 addresses")),
        (Some(16), Some(16), local, Some("does not hold IPv6 addresses with interfaces")),
        (Some(0), Some(4), v4, Some("lacks the timeout flag")),
        (None, Some(4), v4, Some("lacks the timeout flag")),
        (Some(16 | 4), Some(4), v4, Some(interval)),
        (Some(4), Some(4), v4, Some(interval)),
    ];
    for (row, (flags, length, sender, why)) in rows.into_iter().enumerate() {
        let mut attributes: Vec<DefaultNla> = flags.map(|flags| number(3, flags)).into_iter().collect();
        attributes.extend(length.map(|length| number(5, length)));
        let set = Message::new(kind::GET_SET, &attributes);
        let found = check(PATH, set.attributes(), sender).map_err(|error| error.to_string());
        assert_eq!(found, why.map_or(Ok(()), |why| Err(format!("set s {why}"))), "row {row}");
    }
}

#[test]
fn an_element_survives_encoding_and_parsing() {
    let rest = || vec![DefaultNla::new(5, 1500_u64.to_be_bytes().to_vec())];
    for address in ["192.0.2.7", "2001:db8::7", "fe80::7"] {
        let sender = Sender::new(address.parse().expect("an address"), NonZeroU32::new(3));
        let (address, interface) = (sender.address(), sender.interface());
        for (rest, left) in [(rest(), Some(Duration::from_millis(1500))), (Vec::new(), None)] {
            let message = Message::new(kind::NEW_ELEMENT, &element(PATH, sender, rest));
            let all = message.attributes();
            assert_eq!((all.text(1), all.text(2)), (Some("fw4"), Some("s")));
            let read: Vec<_> = elements(&message).map(read).collect();
            assert_eq!(read, [Some(Element { address, interface, left, packets: None })]);
        }
    }
}

#[test]
fn a_key_of_another_length_is_not_an_address() {
    for length in [0, 3, 5, 15, 17, 19, 21] {
        let key = nested(1, &[DefaultNla::new(1, vec![1; length])]);
        let list = nested(3, &[nested(1, &[key])]);
        let message = Message::new(kind::NEW_ELEMENT, &[list]);
        assert_eq!(elements(&message).map(read).collect::<Vec<_>>(), [None], "{length} bytes");
    }
}

#[test]
fn only_a_counter_counts_packets() {
    let data = nested(2, &[DefaultNla::new(2, 9_u64.to_be_bytes().to_vec())]);
    // the expression of an element, its packets
    let rows = [
        (Some(vec![text(1, "counter"), data.clone()]), Some(9)),
        (Some(vec![text(1, "limit"), data.clone()]), None),
        (Some(vec![text(1, "counter")]), None),
        (Some(vec![data]), None),
        (None, None),
    ];
    let address = IpAddr::from([192, 0, 2, 7]);
    for (row, (expression, packets)) in rows.into_iter().enumerate() {
        let rest = expression.map(|parts| nested(7, &parts)).into_iter().collect();
        let message = Message::new(kind::NEW_ELEMENT, &element(PATH, address.into(), rest));
        let read = elements(&message).find_map(read);
        assert_eq!(read, Some(Element { address, interface: None, left: None, packets }), "row {row}");
    }
}

#[test]
fn requests_name_their_table_and_set() {
    let (message, empty) = (get_set(PATH), get_generation());
    assert_eq!((message.attributes().text(1), message.attributes().text(2)), (Some("fw4"), Some("s")));
    assert_eq!(empty.attributes().iter().count(), 0);
}

#[test]
fn the_generation_is_that_of_the_kernel() {
    let answer = |attributes: &[DefaultNla]| Ok(Message::new(kind::GET_GENERATION, attributes));
    assert_eq!(generation_of(answer(&[number(1, 7)])).ok(), Some(Generation(7)));
    for (answer, expected) in [
        (answer(&[]), "Bad message"),
        (Err(Errno::INVAL), "Invalid argument"),
        (Err(Errno::PERM), "permission denied"),
    ] {
        let error = generation_of(answer).map(drop).map_err(|error| with_sources(&error));
        assert!(error.as_ref().is_err_and(|error| error.contains(expected)), "{expected}: {error:?}");
    }
}

#[test]
fn kernel_errors_are_mapped() {
    let rows = [
        (Errno::NOENT, "no set s in table inet fw4"),
        (Errno::PERM, "permission denied; changing the firewall needs root (CAP_NET_ADMIN)"),
        (Errno::INVAL, "cannot look: Invalid argument (os error 22)"),
    ];
    for (errno, expected) in rows {
        assert_eq!(with_sources(&failed(PATH, "look", errno)), expected);
    }
    assert_eq!(
        with_sources(&refused("look", Errno::NOENT)),
        "cannot look: No such file or directory (os error 2)"
    );
}
