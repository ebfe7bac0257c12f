//! Which known key is asked for next: by Zipf's law, or by age.

use crate::keys::mix;

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// Random numbers of one seed: SplitMix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers that belong to a seed.
    pub fn new(seed: u64) -> Random {
        Random(mix(seed ^ GAMMA))
    }

    /// The next number.
    #[inline(always)]
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// A number in `0.0..1.0`.
    #[inline(always)]
    pub fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// True in that share of the cases.
    #[inline(always)]
    pub fn happens(&mut self, share: f64) -> bool {
        self.fraction() < share
    }

    /// How old the key asked for is, in keys: exponential with that mean.
    #[inline(always)]
    pub fn age(&mut self, mean: f64) -> u64 {
        (-(1.0 - self.fraction()).ln() * mean) as u64
    }
}

/// Ranks from 0 on, each asked for in proportion to `(rank + 1)^-exponent`.
///
/// Drawn by rejection-inversion (Hoermann and Derflinger, 1996): no table, so that a hundred
/// million ranks cost nothing to prepare, and each draw takes two or three logarithms.
#[derive(Clone, Copy, Debug)]
pub struct Zipf {
    ranks: f64,
    exponent: f64,
    /// The integral from the first rank, and to the last one.
    first: f64,
    last: f64,
    /// Draws this close above their rank are taken without a further look.
    near: f64,
}

impl Zipf {
    /// The law over so many ranks, at least one.
    pub fn new(ranks: u64, exponent: f64) -> Zipf {
        let mut zipf = Zipf {
            ranks: ranks.max(1) as f64,
            exponent,
            first: 0.0,
            last: 0.0,
            near: 0.0,
        };
        zipf.first = zipf.integral(1.5) - 1.0;
        zipf.last = zipf.integral(zipf.ranks + 0.5);
        zipf.near = 2.0 - zipf.inverse(zipf.integral(2.5) - zipf.density(2.0));
        zipf
    }

    /// The next rank.
    #[inline]
    pub fn rank(&self, random: &mut Random) -> u64 {
        loop {
            let at = self.last + random.fraction() * (self.first - self.last);
            let x = self.inverse(at);
            let rank = (x + 0.5).floor().clamp(1.0, self.ranks);
            let is_near = rank - x <= self.near;
            if is_near || at >= self.integral(rank + 0.5) - self.density(rank) {
                return rank as u64 - 1;
            }
        }
    }

    fn density(&self, x: f64) -> f64 {
        (-self.exponent * x.ln()).exp()
    }

    /// The integral of the density, up to a constant.
    fn integral(&self, x: f64) -> f64 {
        let log = x.ln();
        let t = (1.0 - self.exponent) * log;
        // Both forms of (e^t - 1) / t, the second one where the first would divide by nothing.
        match t.abs() > 1e-8 {
            true => t.exp_m1() / t * log,
            false => (1.0 + t / 2.0) * log,
        }
    }

    fn inverse(&self, y: f64) -> f64 {
        let t = (y * (1.0 - self.exponent)).max(-1.0);
        match t.abs() > 1e-8 {
            true => (t.ln_1p() / t * y).exp(),
            false => ((1.0 - t / 2.0) * y).exp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of the first ranks is drawn, beside how often it should be.
    fn shares(ranks: u64, exponent: f64) -> Vec<(f64, f64)> {
        const DRAWS: u64 = 400_000;
        let zipf = Zipf::new(ranks, exponent);
        let mut random = Random::new(5);
        let mut counts = vec![0_u64; ranks as usize];
        for _ in 0..DRAWS {
            counts[zipf.rank(&mut random) as usize] += 1;
        }
        let weight = |rank: u64| ((rank + 1) as f64).powf(-exponent);
        let sum: f64 = (0..ranks).map(weight).sum();
        let pair = |rank: u64| {
            let drawn = counts[rank as usize] as f64 / DRAWS as f64;
            (drawn, weight(rank) / sum)
        };
        (0..ranks.min(20)).map(pair).collect()
    }

    #[test]
    fn ranks_come_as_often_as_zipf_has_it() {
        for exponent in [0.5, 0.99, 1.0, 1.3] {
            for ranks in [1, 2, 10, 5_000] {
                for (drawn, wanted) in shares(ranks, exponent) {
                    let tolerance = 0.002 + wanted * 0.02;
                    let apart = (drawn - wanted).abs();
                    assert!(apart < tolerance, "{exponent} {ranks}: {drawn} {wanted}");
                }
            }
        }
    }

    #[test]
    fn ages_have_the_mean_asked_for_and_fractions_are_even() {
        let mut random = Random::new(3);
        let count = 200_000;
        let ages: u64 = (0..count).map(|_| random.age(1_000.0)).sum();
        assert!((990..1_010).contains(&(ages / count)), "{ages}");
        let below = (0..count).filter(|_| random.happens(0.3)).count();
        assert!((59_000..61_000).contains(&below), "{below}");
    }
}
