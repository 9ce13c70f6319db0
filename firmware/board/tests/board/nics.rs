//! Frames through the NICs of every board.

use std::{cell::RefCell, rc::Rc};

use pkd_board::{BOARDS, Board, Life, Nic, NicKind, SILENT_TICKS};

use crate::{
    fake_nic::{Cable, FakeNic, context},
    frames::{ipv4, ipv6},
};

/// The gateway's own address, that of a host, and that of another.
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 9];
const HOST: [u8; 6] = [2, 0, 0, 0, 0, 1];

pub(crate) fn nic(kind: &'static NicKind) -> (Nic<FakeNic>, Rc<RefCell<Cable>>) {
    let (driver, cable) = FakeNic::new(kind, OWN);
    (Nic::new(driver, kind, Box::leak(Box::new(Life::new()))), cable)
}

fn to(mac: [u8; 6], mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&mac);
    frame
}

/// The longest frames that there are without a tag.
fn full_size() -> [Vec<u8>; 2] {
    [ipv4(1_480), ipv6(1_460)]
}

#[test]
fn every_board_sends_back_full_size_frames_byte_for_byte() {
    for Board { name, nics, .. } in BOARDS {
        for frame in full_size() {
            let (mut nic, cable) = nic(nics[0]);
            let frame = to(OWN, frame);
            cable.borrow_mut().to_nic.push_back(frame.clone());
            assert!(nic.receive(&mut context(), |frame, place, _| assert!(place.send(frame))), "{name}");
            assert_eq!(cable.borrow().from_nic, [frame], "{name}");
            assert!(!nic.receive(&mut context(), |_, _, _| panic!("there was one frame")), "{name}");
        }
    }
}

#[test]
fn every_board_with_two_nics_carries_full_size_frames_between_them() {
    let mut bridges = 0;
    for Board { name, nics, .. } in BOARDS {
        let [one, other] = nics[..] else { continue };
        bridges += 1;
        for (from, into) in [(one, other), (other, one)] {
            for frame in full_size() {
                let ((mut from, cable), (mut into, other_cable)) = (nic(from), nic(into));
                let frame = to(HOST, frame);
                cable.borrow_mut().to_nic.push_back(frame.clone());
                let sent = from.receive(&mut context(), |frame, _, context| {
                    assert!(into.send(context, frame), "{name}");
                });
                assert!(sent, "{name}: the NIC drops what is not for itself");
                assert_eq!(other_cable.borrow().from_nic, [frame], "{name}");
            }
        }
    }
    assert!(bridges > 0);
}

#[test]
fn a_frame_that_is_too_long_is_counted_and_not_sent() {
    for Board { name, nics, .. } in BOARDS {
        for kind in *nics {
            let (mut nic, cable) = nic(kind);
            let longest = vec![0; kind.transmits];
            assert!(nic.send(&mut context(), &longest), "{name}");
            for longer in [1, 4, 100, 60_000] {
                assert!(!nic.send(&mut context(), &vec![0; kind.transmits + longer]), "{name}: {longer}");
            }
            assert_eq!((nic.too_long(), cable.borrow().from_nic.len()), (4, 1), "{name}");
        }
    }
}

#[test]
fn frames_of_any_length_are_handled_without_a_panic() {
    for Board { name, nics, .. } in BOARDS {
        let (mut nic, cable) = nic(nics[0]);
        for length in (0..64).chain([1_000, 1_513, 1_514, 1_515, 1_518, 1_519, 1_536, 9_000]) {
            for byte in [0, 0x08, 0x81, 0x86, 0xff] {
                cable.borrow_mut().to_nic.push_back(vec![byte; length]);
                let mut seen = None;
                nic.receive(&mut context(), |frame, place, _| {
                    seen = Some(frame.len());
                    place.send(frame);
                });
                assert!(
                    seen.is_none_or(|seen| (14..=length).contains(&seen)),
                    "{name}: {seen:?} of {length}"
                );
            }
        }
    }
}

#[test]
fn a_nic_counts_as_dead_only_after_a_while_without_any_sign_of_life() {
    let kind = BOARDS[0].nics[0];
    let life: &'static Life = Box::leak(Box::new(Life::new()));
    let (driver, cable) = FakeNic::new(kind, OWN);
    let mut nic = Nic::new(driver, kind, life);
    let ticks_alive = |nic: &mut Nic<FakeNic>| (0..200).take_while(|_| nic.on_tick()).count();
    assert_eq!(ticks_alive(&mut nic), usize::from(SILENT_TICKS), "from the start");
    life.show();
    assert!(nic.on_tick());
    assert_eq!(ticks_alive(&mut nic), usize::from(SILENT_TICKS), "after the driver's report");
    cable.borrow_mut().to_nic.push_back(to(OWN, ipv4(100)));
    assert!(nic.receive(&mut context(), |_, _, _| {}) && nic.on_tick(), "a frame is a sign of life");
    // Sending is not: the driver takes frames for a chip that is gone.
    assert_eq!(ticks_alive(&mut nic), usize::from(SILENT_TICKS));
    assert!(nic.send(&mut context(), &ipv4(100)) && !nic.on_tick());
}
