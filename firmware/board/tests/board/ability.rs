//! Which configurations a board can run.

use pkd_board::{BOARDS, Board, find};
use pkd_gateway::{Inline, Mode, Pass, Protect, Vlans};

use crate::{fake_nic::context, frames::ipv4, nics::nic};

const INLINE: Inline = Inline {
    vlans: None,
    protect: Protect::Host,
    ipv6: true,
    pass: Pass { ethertypes: [0; 8], protocols: [0; 8] },
};
const BRIDGE: Mode = Mode::Inline(INLINE);
const TRUNK: Mode = Mode::Inline(Inline { vlans: Some(Vlans { outside: 2, inside: 3 }), ..INLINE });

/// Whether a full-size frame for another host comes in, with a tag or without.
fn receives(board: &Board, tagged: bool) -> bool {
    board.nics.iter().all(|kind| {
        let (mut nic, cable) = nic(kind);
        let mut frame = ipv4(1_480);
        if tagged {
            frame.splice(12..12, [0x81, 0x00, 0x00, 0x02]);
        }
        cable.borrow_mut().to_nic.push_back(frame);
        nic.receive(&mut context(), |frame, place, _| assert!(place.send(frame)))
    })
}

#[test]
fn a_board_runs_exactly_what_its_nics_carry() {
    for board in BOARDS {
        let name = board.name;
        let is_single = board.nics.len() == 1;
        assert_eq!(board.check(Mode::OneArm, false).is_ok(), is_single, "{name}");
        assert_eq!(board.check(BRIDGE, false).is_ok(), !is_single && receives(board, false), "{name}");
        assert_eq!(board.check(TRUNK, false).is_ok(), is_single && receives(board, true), "{name}");
        let any = |is_updated| {
            [Mode::OneArm, BRIDGE, TRUNK].into_iter().any(|mode| board.check(mode, is_updated).is_ok())
        };
        assert!(any(false), "{name} is of no use");
        assert_eq!(any(true), board.updates.is_some(), "{name}");
    }
}

#[test]
fn the_reason_is_one_line_with_the_board_and_what_to_change() {
    let table = [
        ("w5500-evb-pico2", BRIDGE, "needs two"),
        ("w5500-evb-pico2", TRUNK, "W5500 drops frames that are for other MAC addresses"),
        ("nucleo-h743zi", TRUNK, "Ethernet MAC drops frames"),
        ("riscv32-virt", TRUNK, "remove outside_vlan and inside_vlan"),
        ("riscv32-virt", Mode::OneArm, "mode = \"one-arm\""),
        ("mps2-an386", BRIDGE, "outside_vlan"),
    ];
    for (name, mode, expected) in table {
        let text = find(name).unwrap().check(mode, false).unwrap_err().to_string();
        assert!(text.starts_with(name) && text.contains(expected) && !text.contains('\n'), "{text}");
    }
    let text = find("mps2-an386").unwrap().check(Mode::OneArm, true).unwrap_err().to_string();
    assert_eq!(text, "mps2-an386 takes no updates over the network: remove [update]");
}

#[test]
fn each_board_has_a_name_of_its_own_and_flash_that_does_not_overlap() {
    for (row, board) in BOARDS.iter().enumerate() {
        assert!(BOARDS[..row].iter().all(|other| other.name != board.name), "{}", board.name);
        assert_eq!(find(board.name), Some(board));
        let flash = board.flash;
        let limit = u32::try_from(pkd_gateway::CONFIG_LIMIT).unwrap();
        let (config, floor) =
            (flash.config..flash.config + limit, flash.floor..flash.floor + flash.floor_bytes);
        let other = flash.other_config.map(|start| start..start + limit);
        // The slot has a sector more than an image, and state and slot begin with one.
        let updates = board.updates.into_iter().flat_map(|updates| {
            assert_eq!([updates.slot, updates.image_bytes, updates.state].map(|at| at % 0x1000), [0; 3]);
            let slot = updates.slot..updates.slot + updates.image_bytes + 0x1000;
            [slot, updates.state..updates.state + updates.state_bytes]
        });
        let places: Vec<_> = [config, floor].into_iter().chain(other).chain(updates).collect();
        for (row, one) in places.iter().enumerate() {
            let are_apart = |other: &std::ops::Range<u32>| one.end <= other.start || other.end <= one.start;
            assert!(places[..row].iter().all(are_apart), "{}", board.name);
        }
    }
    assert_eq!(find("w5500"), None);
}
