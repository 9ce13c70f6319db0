//! The serial line over USB (CDC ACM).

use embassy_executor::Spawner;
use embassy_futures::select::{Either, select};
use embassy_rp::{
    Peri, bind_interrupts,
    peripherals::USB,
    usb::{Driver, InterruptHandler},
};
use embassy_usb::{
    Builder, Config, UsbDevice,
    class::cdc_acm::{CdcAcmClass, State},
    driver::EndpointError,
};
use pkd_board::Board;
use pkd_runtime::{Desk, Reaction};
use static_cell::{ConstStaticCell, StaticCell};

bind_interrupts!(struct Interrupts {
    USBCTRL_IRQ => InterruptHandler<USB>;
});

/// Length of a packet in bytes, the greatest at full speed.
const PACKET: usize = 64;
/// Numbers that are for tests and for nobody's product (pid.codes). Systems find the driver by the class.
const VENDOR: u16 = 0x1209;
const PRODUCT: u16 = 0x0001;

type UsbDriver = Driver<'static, USB>;

/// Starts the serial line. Call it once, before the configuration is loaded: a board without one gets it this way.
///
/// # Panics
/// If it is called again.
pub fn start_usb(spawner: Spawner, usb: Peri<'static, USB>, board: &'static Board) {
    static CONFIGURATION: ConstStaticCell<[u8; 256]> = ConstStaticCell::new([0; 256]);
    static BOS: ConstStaticCell<[u8; 256]> = ConstStaticCell::new([0; 256]);
    static CONTROL: ConstStaticCell<[u8; PACKET]> = ConstStaticCell::new([0; PACKET]);
    static STATE: StaticCell<State<'static>> = StaticCell::new();

    let mut config = Config::new(VENDOR, PRODUCT);
    config.manufacturer = Some("pkd");
    config.product = Some(board.name);
    let driver = Driver::new(usb, Interrupts);
    let mut builder = Builder::new(driver, config, CONFIGURATION.take(), BOS.take(), &mut [], CONTROL.take());
    let class = CdcAcmClass::new(&mut builder, STATE.init(State::new()), 64);
    match (run_usb(builder.build()), serve(class, Desk::new(board))) {
        (Ok(usb), Ok(serve)) => {
            spawner.spawn(usb);
            spawner.spawn(serve);
        }
        _ => defmt::panic!("USB was started twice"),
    }
}

#[embassy_executor::task]
async fn run_usb(mut device: UsbDevice<'static, UsbDriver>) -> ! {
    device.run().await
}

#[embassy_executor::task]
async fn serve(mut class: CdcAcmClass<'static, UsbDriver>, mut desk: Desk) -> ! {
    loop {
        class.wait_connection().await;
        // Until somebody pulls the cable.
        let _gone = serve_connected(&mut class, &mut desk).await;
    }
}

async fn serve_connected(
    class: &mut CdcAcmClass<'static, UsbDriver>,
    desk: &mut Desk,
) -> Result<(), EndpointError> {
    let mut packet = [0; PACKET];
    loop {
        let received = match select(class.read_packet(&mut packet), desk.line()).await {
            Either::First(length) => length?,
            Either::Second(line) => {
                send(class, &line).await?;
                continue;
            }
        };
        for byte in packet.iter().take(received) {
            match desk.on_byte(*byte).await {
                Reaction::Wait => {}
                Reaction::Answer => send(class, desk.answer()).await?,
                Reaction::Restart => cortex_m::peripheral::SCB::sys_reset(),
            }
        }
    }
}

/// Sends a text, line by line.
async fn send(class: &mut CdcAcmClass<'static, UsbDriver>, text: &str) -> Result<(), EndpointError> {
    for line in text.lines() {
        // A packet that is full would have to be followed by one that is not.
        for part in line.as_bytes().chunks(PACKET - 1) {
            class.write_packet(part).await?;
        }
        class.write_packet(b"\r\n").await?;
    }
    Ok(())
}
