use super::*;

const PATH: SetPath<'_> = SetPath { table: "fw4", set: "s" };

fn number(kind: u16, number: u32) -> DefaultNla {
    DefaultNla::new(kind, number.to_be_bytes().to_vec())
}

#[test]
fn a_set_holds_single_addresses_of_its_family_for_a_time() {
    let (v4, v6): (IpAddr, IpAddr) = ([192, 0, 2, 7].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 7].into());
    let interval = "has the flag interval, and single addresses need a set without";
    // flags, bytes of a key, who comes, why he cannot
    let rows = [
        (Some(16), Some(4), v4, None),
        (Some(16), Some(16), v6, None),
        // NFT_SET_EVAL, and others that do no harm.
        (Some(16 | 32), Some(4), v4, None),
        (Some(16), Some(16), v4, Some("holds no IPv4 addresses")),
        (Some(16), Some(4), v6, Some("holds no IPv6 addresses")),
        (Some(16), Some(8), v4, Some("holds no IPv4 addresses")),
        (Some(16), None, v6, Some("holds no IPv6 addresses")),
        (Some(0), Some(4), v4, Some("lacks the flag timeout")),
        (None, Some(4), v4, Some("lacks the flag timeout")),
        (Some(16 | 4), Some(4), v4, Some(interval)),
        (Some(4), Some(4), v4, Some(interval)),
    ];
    for (row, (flags, length, address, why)) in rows.into_iter().enumerate() {
        let mut attributes: Vec<DefaultNla> = flags.map(|flags| number(3, flags)).into_iter().collect();
        attributes.extend(length.map(|length| number(5, length)));
        let set = Message::new(kind::GET_SET, &attributes);
        let found = check(PATH, set.attributes(), address).map_err(|error| error.to_string());
        assert_eq!(found, why.map_or(Ok(()), |why| Err(format!("set s {why}"))), "row {row}");
    }
}

#[test]
fn an_element_is_read_as_it_was_written() {
    let rest = || vec![DefaultNla::new(5, 1500_u64.to_be_bytes().to_vec())];
    for address in ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7"] {
        let address: IpAddr = address.parse().expect("an address");
        for (rest, left) in [(rest(), Some(Duration::from_millis(1500))), (Vec::new(), None)] {
            let message = Message::new(kind::NEW_ELEMENT, &element(PATH, address, rest));
            let all = message.attributes();
            assert_eq!((all.text(1), all.text(2)), (Some("fw4"), Some("s")));
            let read: Vec<_> = elements(&message).map(read).collect();
            assert_eq!(read, [Some(Element { address, left, packets: None })]);
        }
    }
}

#[test]
fn what_is_no_address_is_no_element() {
    for length in [0, 3, 5, 15, 17] {
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
        let message = Message::new(kind::NEW_ELEMENT, &element(PATH, address, rest));
        let read = elements(&message).find_map(read);
        assert_eq!(read, Some(Element { address, left: None, packets }), "row {row}");
    }
}

#[test]
fn questions_name_their_table_and_set() {
    let (message, empty) = (get_set(PATH), get_generation());
    assert_eq!((message.attributes().text(1), message.attributes().text(2)), (Some("fw4"), Some("s")));
    assert_eq!(empty.attributes().iter().count(), 0);
}

#[test]
fn a_generation_is_what_the_kernel_says_it_is() {
    let answer = |attributes: &[DefaultNla]| Ok(Message::new(kind::GET_GENERATION, attributes));
    assert_eq!(generation_of(answer(&[number(1, 7)])).ok(), Some(Generation(7)));
    for (answer, expected) in [
        (answer(&[]), "Bad message"),
        (Err(Errno::INVAL), "Invalid argument"),
        (Err(Errno::PERM), "the firewall can be changed by root only"),
    ] {
        let told = generation_of(answer).map(drop).map_err(|error| error.to_string());
        assert!(told.as_ref().is_err_and(|told| told.contains(expected)), "{expected}: {told:?}");
    }
}

#[test]
fn an_error_of_the_kernel_says_what_it_means_for_a_set() {
    let rows = [
        (Errno::NOENT, "no set s in table inet fw4"),
        (Errno::PERM, "the firewall can be changed by root only (CAP_NET_ADMIN)"),
        (Errno::INVAL, "cannot look: Invalid argument (os error 22)"),
    ];
    for (errno, expected) in rows {
        assert_eq!(failed(PATH, "look", errno).to_string(), expected);
    }
    assert_eq!(
        refused("look", Errno::NOENT).to_string(),
        "cannot look: No such file or directory (os error 2)"
    );
}
