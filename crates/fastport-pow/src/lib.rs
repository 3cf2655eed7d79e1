//! C's `pow` in the program itself.
//!
//! Of libm the daemon needs this one function, for a figure of tokio's multi-threaded scheduler. The
//! shared library would be loaded and relocated at each start for its sake: 300 KiB of a board's memory.
//! Name the package (`use fastport_pow as _;`) to have it linked in.
#![no_std]

/// `base` to the power of `exponent`, as C11 F.10.4.4 has it, but that `errno` is left alone, which no
/// Rust code looks at.
// SAFETY: the attribute makes this the program's `pow`. Name, parameters, result and calling convention
// are those of C11 7.12.7.4, and the values those of its annex F, so whoever calls `pow` gets what it was
// compiled for. It has no memory of its own, allocates nothing and does not unwind: libm's is musl's in
// safe Rust.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub extern "C" fn pow(base: f64, exponent: f64) -> f64 {
    libm::pow(base, exponent)
}

#[cfg(test)]
mod tests {
    use super::pow;

    #[test]
    fn powers_are_what_c_says_they_are() {
        let cases = [
            (2.0, 10.0, 1024.0),
            (2.0, -1.0, 0.5),
            (9.0, 0.5, 3.0),
            (-2.0, 3.0, -8.0),
            (f64::NAN, 0.0, 1.0),
            (1.0, f64::NAN, 1.0),
            (0.0, -1.0, f64::INFINITY),
            (-0.0, -1.0, f64::NEG_INFINITY),
            (f64::INFINITY, -1.0, 0.0),
            (0.9, 200.0, 7.055079108655367e-10),
        ];
        for (base, exponent, power) in cases {
            assert_eq!(pow(base, exponent), power, "{base} to the power of {exponent}");
        }
        assert!(pow(-8.0, 0.5).is_nan());
    }

    #[test]
    fn it_is_the_one_that_the_program_calls() {
        // not a constant to the compiler
        let exponent: f64 = core::hint::black_box(0.3);
        assert_eq!(f64_powf(0.9, exponent).to_bits(), pow(0.9, exponent).to_bits());
    }

    fn f64_powf(base: f64, exponent: f64) -> f64 {
        extern crate std;
        base.powf(exponent)
    }
}
