//! Tests of the boards' shared code, against NICs and chips that behave as the boards' real ones do.

// Its critical section is linked by name.
#[cfg(test)]
use critical_section as _;

#[cfg(test)]
mod ability;
#[cfg(test)]
mod console;
#[cfg(test)]
mod fake_chip;
#[cfg(test)]
mod fake_nic;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod nics;
#[cfg(test)]
mod slots;
#[cfg(test)]
mod uf2;
#[cfg(test)]
mod wiznet;
