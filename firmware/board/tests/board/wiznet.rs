//! `embassy-net-wiznet` between a W5500 on a bad day and a gateway.

use embassy_futures::{block_on, select::select, yield_now};
use embassy_net_driver::{Driver as _, RxToken as _, TxToken as _};
use embassy_net_wiznet::{Device, State, chip};
use embassy_time::{Duration, MockDriver};
use pkd_board::wiznet::{Bus, Chip, Interrupt, W5500};

use crate::{
    fake_chip::{FakeChip, FakePin, FakeReset},
    fake_nic::context,
    frames::ipv4,
};

/// More turns than any of this takes.
const LIMIT: usize = 1_000_000;
/// The time of a turn. The driver looks at the link twice a second.
const TURN: Duration = Duration::from_millis(5);

/// Runs the driver on a chip until `scenario` ends.
fn run(bridge: bool, scenario: impl AsyncFnOnce(&FakeChip, &mut Device<'_>, &'static Chip)) {
    let (fake, chip): (_, &'static Chip) = (FakeChip::new(), Box::leak(Box::new(Chip::new())));
    let bus = Bus::new(fake.clone(), &W5500, chip);
    let bus = if bridge { bus.without_filter() } else { bus };
    let mut state = State::<4, 4>::new();
    let interrupt = Interrupt::new(FakePin(fake.clone()), chip);
    let all = async {
        let started = embassy_net_wiznet::new::<4, 4, chip::W5500, _, _, _>(
            [2, 0, 0, 0, 0, 9],
            &mut state,
            bus,
            interrupt,
            FakeReset,
        );
        let Ok((mut device, runner)) = started.await else { panic!("the driver does not start") };
        select(runner.run(), scenario(&fake, &mut device, chip)).await;
    };
    block_on(select(clock(), all));
}

/// Time passes.
async fn clock() {
    loop {
        MockDriver::get().advance(TURN);
        yield_now().await;
    }
}

/// Waits for something, with a limit.
async fn until(what: &str, mut happened: impl FnMut() -> bool) {
    for _ in 0..LIMIT {
        if happened() {
            return;
        }
        yield_now().await;
    }
    panic!("{what}");
}

/// The next frame that is not empty.
async fn next(device: &mut Device<'_>) -> Vec<u8> {
    let mut given = Vec::new();
    until("no frame comes", || {
        if let Some((received, _)) = device.receive(&mut context()) {
            given = received.consume(|frame| frame.to_vec());
        }
        !given.is_empty()
    })
    .await;
    given
}

fn frame(number: usize) -> Vec<u8> {
    let mut frame = ipv4(100 + number);
    frame[20] = u8::try_from(number % 251).unwrap();
    frame
}

#[test]
fn frames_that_pile_up_between_two_interrupts_are_all_read() {
    run(false, async |fake, device, chip| {
        for round in 0..50 {
            for number in 0..20 {
                fake.0.borrow_mut().arrive(&frame(round + number));
            }
            for number in 0..20 {
                assert_eq!(next(device).await, frame(round + number), "round {round}");
            }
        }
        assert_eq!((fake.0.borrow().lost, chip.life.faults()), (0, 0));
    });
}

#[test]
fn the_driver_goes_on_after_the_chip_had_no_room_left() {
    run(false, async |fake, device, _| {
        for _ in 0..3 {
            // Nobody reads meanwhile.
            let full = ipv4(1_480);
            until("the chip never fills", || {
                fake.0.borrow_mut().arrive(&full);
                fake.0.borrow().lost > 0
            })
            .await;
            fake.0.borrow_mut().lost = 0;
            until("frames stay in the chip", || {
                if let Some((received, _)) = device.receive(&mut context()) {
                    received.consume(|frame| assert!(frame.is_empty() || *frame == full[..]));
                }
                fake.0.borrow().waiting() == 0
            })
            .await;
        }
        fake.0.borrow_mut().arrive(&frame(1));
        until("nothing more is received", || {
            let received = device.receive(&mut context());
            received.is_some_and(|(received, _)| received.consume(|bytes| *bytes == frame(1)[..]))
        })
        .await;
    });
}

/// firmware/README.md estimates the throughput of boards with these chips from it.
#[test]
fn a_frame_takes_little_more_on_the_bus_than_its_own_bytes() {
    const FRAMES: usize = 200;
    run(true, async |fake, device, _| {
        let full = ipv4(1_480);
        let before = (fake.0.borrow().accesses, fake.0.borrow().clocked);
        for _ in 0..FRAMES {
            fake.0.borrow_mut().arrive(&full);
            assert_eq!(next(device).await, full);
            until("nothing can be sent", || {
                let token = device.transmit(&mut context());
                token.map(|token| token.consume(full.len(), |frame| frame.copy_from_slice(&full))).is_some()
            })
            .await;
        }
        let sent = |fake: &FakeChip| fake.0.borrow().sent() >= FRAMES * full.len();
        until("frames are not sent", || sent(fake)).await;
        let (accesses, clocked) = (fake.0.borrow().accesses - before.0, fake.0.borrow().clocked - before.1);
        let overhead = clocked.div_ceil(FRAMES) - 2 * full.len();
        assert!(overhead <= 64, "{overhead} bytes more than the frame's own");
        assert!(accesses.div_ceil(FRAMES) <= 14, "{accesses} accesses");
    });
}

#[test]
fn a_length_that_cannot_be_right_is_neither_a_panic_nor_the_end() {
    for noise in [0, 1, 2, 15, 1_517, 5_000, 0x8000, u16::MAX] {
        run(false, async |fake, device, chip| {
            fake.0.borrow_mut().noise = Some(noise);
            fake.0.borrow_mut().arrive(&frame(1));
            until("the length is read", || {
                let received = device.receive(&mut context());
                if let Some((received, _)) = received {
                    received.consume(|bytes| assert!(bytes.is_empty(), "{noise}: {bytes:?}"));
                }
                fake.0.borrow().waiting() == 0
            })
            .await;
            assert_eq!(chip.life.faults(), 1, "{noise}");
            for number in 2..5 {
                fake.0.borrow_mut().arrive(&frame(number));
                assert_eq!(next(device).await, frame(number), "after {noise}");
            }
        });
    }
}

#[test]
fn a_chip_shows_life_only_as_long_as_it_is_there_and_set_up() {
    /// Whether it does within ten looks of the driver at the link.
    async fn shows_life(chip: &Chip) -> bool {
        let _before = chip.life.take();
        for _ in 0..1_000 {
            if chip.life.take() {
                return true;
            }
            yield_now().await;
        }
        false
    }
    run(false, async |fake, _, chip| {
        assert!(shows_life(chip).await);
        for byte in [0, 0xff] {
            fake.0.borrow_mut().floating = Some(byte);
            // What was begun before is over.
            shows_life(chip).await;
            assert!(!shows_life(chip).await, "{byte:#x}");
        }
        fake.0.borrow_mut().floating = None;
        assert!(shows_life(chip).await, "it is back");
        fake.0.borrow_mut().lose_power();
        shows_life(chip).await;
        assert!(!shows_life(chip).await, "its socket is closed");
    });
}

#[test]
fn a_bridge_has_no_mac_filter_and_one_arm_keeps_it() {
    for (bridge, mode) in [(false, 0x84), (true, 0x04)] {
        run(bridge, async |fake, device, _| {
            assert_eq!(fake.0.borrow().mode(), mode);
            fake.0.borrow_mut().arrive(&frame(1));
            assert_eq!(next(device).await, frame(1));
        });
    }
}
