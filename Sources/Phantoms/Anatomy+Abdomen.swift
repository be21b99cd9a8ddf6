extension Anatomy {
    mutating func paintAbdomen() {
        paintBowel()
        paintKidneys()
        paintLiver()
        // Spleen, against the left dome, hollowed where stomach and kidney lie.
        let spleen = Organ(solid: SolidEllipsoid(Position(92, 40, -46), Position(34, 44, 50), axes: (Position(0.8, 0.6, 0), Position(-0.6, 0.8, -0.15), Position(0.1, 0.1, 1))),
                           hollow: SolidEllipsoid(Position(64, 10, -52), Position(33, 44, 70)), cavity: cavity, diaphragm: diaphragm)
        painting.add(spleen, Tissue.spleen)
        paintStomach()
        // Pancreas, duodenum.
        painting.tube([Position(-32, -24, -112), Position(-22, -30, -98), Position(2, -30, -92), Position(30, -12, -84), Position(62, 8, -70)], [13, 11, 9, 9, 7], Tissue.gland)
        painting.tube([Position(-20, -48, -86), Position(-42, -34, -92), Position(-46, -22, -112), Position(-40, -14, -134)], [12, 13, 12], Tissue.bowelWall)
        painting.tube([Position(-20, -48, -86), Position(-42, -34, -92), Position(-46, -22, -112), Position(-40, -14, -134)], [9, 10, 9], Tissue.chyme)
        // Adrenals: thin limbs.
        painting.tube([Position(-28, 26, -44), Position(-26, 32, -52), Position(-32, 40, -60)], [2.8, 2.4, 2], Tissue.gland, pieces: 3)
        painting.tube([Position(36, 18, -48), Position(34, 26, -56), Position(42, 32, -66)], [3, 2.6, 2], Tissue.gland, pieces: 3)
        painting.tube([Position(34, 26, -56), Position(28, 32, -66)], [2.6, 2], Tissue.gland, pieces: 3)
        // Veins: inferior cava with renal veins, portal and splenic veins, superior mesenteric.
        painting.tube([Position(-21, 4, -50), Position(-19, 12, -90), Position(-17, 14, -130), Position(-16, 14, -175)], [12, 11.5, 11, 10.5], Tissue.vein)
        painting.tube([Position(50, 30, -96), Position(20, 0, -90), Position(-12, 8, -90)], [5, 5.5, 6], Tissue.vein)
        painting.tube([Position(-52, 34, -104), Position(-24, 14, -96)], [5, 6], Tissue.vein)
        painting.tube([Position(-38, -20, -66), Position(-22, -22, -82), Position(-4, -22, -94)], [7, 7.5, 7.5], Tissue.portal)
        painting.tube([Position(-4, -22, -94), Position(30, -6, -84), Position(58, 14, -70), Position(78, 26, -56)], [6, 5.5, 5, 3.5], Tissue.portal)
        painting.tube([Position(-4, -22, -94), Position(-8, -34, -118), Position(-4, -42, -175)], [6.5, 6, 5], Tissue.portal)
        // Arteries of the bowel, spleen, liver and kidneys.
        painting.tube([Position(8, 14, -76), Position(8, -2, -75), Position(6, -6, -77)], [4.2, 4], Tissue.aorta)
        painting.tube([Position(6, -6, -77), Position(-14, -14, -82), Position(-28, -22, -76), Position(-42, -22, -62)], [3.2, 2.8, 2.2, 1.8], Tissue.aorta)
        painting.tube([Position(6, -6, -77), Position(24, -6, -66), Position(36, 4, -78), Position(50, 12, -62), Position(64, 14, -66), Position(78, 26, -52)], [3.4, 3.2, 3, 2.6], Tissue.aorta)
        painting.tube([Position(6, 12, -90), Position(6, -8, -94), Position(4, -24, -112), Position(6, -36, -175)], [4.4, 4, 3.6, 2.6], Tissue.aorta)
        for side: Float in [-1, 1] {
            painting.tube([Position(5, 17, -100), Position(side * 24 + 4, 26, side < 0 ? -104 : -97), Position(side * 46, 38, side < 0 ? -103 : -95)], [3.4, 3, 2.6], Tissue.aorta)
        }
        for k in 0..<9 {
            let a = Position(4, -30 - Float(k % 3) * 3, -122 - 4 * Float(k)), side: Float = k % 2 == 0 ? 1 : -1
            painting.tube([a, a + Position(side * random.between(20, 32), random.between(-16, 0), random.between(-14, -2)), a + Position(side * random.between(44, 66), random.between(-26, 8), random.between(-30, -6))], [1.7, 1.1, 0.7], Tissue.aorta, pieces: 4)
        }
    }

    private mutating func paintLiver() {
        let liver = Liver(cavity: cavity, diaphragm: diaphragm)
        painting.add(liver, Tissue.liver)
        var samples: [Position] = []
        while samples.count < 620 {
            let p = Position(random.between(-128, 75), random.between(-92, 92), random.between(-128, 8))
            if liver.distance(at: p) < -4 { samples.append(p) }
        }
        let hilum = Position(-38, -20, -66), outflow = Position(-24, 4, -14)
        var portal: [Branch] = [], veins: [Branch] = [], arteries: [Branch] = []
        let right = samples.prefix(330).filter { $0.x < -34 }, left = samples.prefix(330).filter { $0.x >= -34 }
        grow(from: hilum, heading: Position(-1, 0.2, 0.3), points: right, radius: 6.4, exponent: 0.42, into: &portal)
        grow(from: hilum, heading: Position(0.5, -0.8, 0.5), points: left, radius: 5, exponent: 0.42, into: &portal)
        grow(from: hilum + Position(3, -4, 2), heading: Position(-1, 0, 0.3), points: samples.prefix(90).map { $0 + 4 * random.jitter() }, radius: 2.2, exponent: 0.3, into: &arteries)
        for (range, heading) in [(-200.0 ... -75, Position(-1, 0.3, -0.3)), (-75.0 ... -30, Position(-0.3, -1, -0.4)), (-30.0...200, Position(0.8, -0.8, -0.3))] as [(ClosedRange<Float>, Position)] {
            grow(from: outflow, heading: heading, points: samples.suffix(290).filter { range.contains($0.x) }, radius: 5.2, exponent: 0.42, into: &veins)
        }
        let inside = Grown(liver, by: -2.5)
        for b in veins where b.radius > 0.45 && inside.distance(at: b.q) < 0 { painting.add(RoundCone(b.p, b.q, b.radius, b.endRadius), Tissue.hepaticVein) }
        for b in portal where b.radius > 0.45 && inside.distance(at: b.q) < 0 { painting.add(RoundCone(b.p, b.q, b.radius, b.endRadius), Tissue.portal) }
        for b in arteries where b.radius > 0.4 && inside.distance(at: b.q) < 0 { painting.add(RoundCone(b.p, b.q, b.radius, b.endRadius), Tissue.aorta) }
        // Lesions: metastases with a faint rim, a cyst, a haemangioma with its nodular edge.
        for (p, r) in [(Position(-84, 18, -40), 11), (Position(-62, -46, -58), 7.5), (Position(-104, -18, -74), 15), (Position(6, -62, -42), 6), (Position(-58, 44, -70), 5)] as [(Position, Float)] {
            let radii = Position(r * random.between(0.9, 1.1), r * random.between(0.9, 1.1), r * random.between(0.85, 1.1))
            painting.add(SolidEllipsoid(p, radii), Material(value: 122, grain: 6))
            painting.add(Grown(SolidEllipsoid(p, radii), by: -1.8), Material(value: 66, grain: 8))
            painting.add(SolidEllipsoid(p + 0.15 * r * random.jitter(), radii * 0.5), Material(value: 48, grain: 6))
        }
        painting.add(SolidEllipsoid(Position(-100, 34, -20), Position(8, 8, 7.5)), Tissue.fluid)
        painting.add(SolidEllipsoid(Position(-30, -58, -28), Position(10, 9, 9)), Material(value: 72, grain: 6))
        for _ in 0..<9 { painting.add(SolidEllipsoid(Position(-30, -58, -28) + 8.2 * random.jitter().unit, Position(2.6, 2.4, 2.4)), Material(value: 225), over: 40...130) }
        // Gall bladder, in its bed.
        painting.add(SolidEllipsoid(Position(-52, -52, -94), long: Position(-0.2, -0.5, -0.8), up: Position(0, -1, 0.4), Position(28, 14, 14)), Tissue.bowelWall)
        painting.add(SolidEllipsoid(Position(-52, -52, -94), long: Position(-0.2, -0.5, -0.8), up: Position(0, -1, 0.4), Position(26.4, 12.4, 12.4)), Tissue.fluid)
    }

    private mutating func paintKidneys() {
        for side: Float in [-1, 1] {
            let center = Position(side * 64, 44, side < 0 ? -106 : -98)
            let long = Position(side * 0.16, 0.14, -1), up = Position(side * 0.75, -0.65, 0)
            painting.add(SolidEllipsoid(center, long: long, up: up, Position(66, 38, 38)), Tissue.visceralFat)
            let kidney = SolidEllipsoid(center, long: long, up: up, Position(53, 27, 31))
            let sinus = center + Position(-side * 17, -9, 0)
            painting.add(kidney, Tissue.cortex)
            // Pyramids point to the sinus.
            for k in 0..<11 {
                let t = -1 + 2 * (Float(k) + 0.5) / 11, turn = Float(k) * 2.4
                let out = (long.unit * (1.25 * t) + Position(side * 0.62, 0.5, 0) * (0.75 + 0.25 * cosine(turn)) + Position(side * 0.4, -0.5, 0) * sine(turn)).unit
                let surface = center + out * Position(19, 19, 42)
                painting.add(RoundCone(surface, sinus + (surface - sinus) * 0.32, 6.4, 2.2), Tissue.medulla, over: 150...260)
            }
            painting.add(SolidEllipsoid(sinus, long: long, up: up, Position(30, 13, 14)), Tissue.visceralFat)
            for k in 0..<7 {
                let q = center + long.unit * (-33 + 11 * Float(k)) + Position(side * 8, 4, 0)
                painting.tube([sinus + Position(-side * 4, -3, 0), (sinus + q) / 2 + 3 * random.jitter(), q], [2.4, 1.6, 1.1], k % 2 == 0 ? Tissue.aorta : Tissue.vein, pieces: 3)
                painting.tube([sinus, (sinus + q) / 2 + 4 * random.jitter(), q], [3.4, 2.6, 3], Tissue.fluid, pieces: 3)
            }
            painting.tube([sinus, sinus + Position(-side * 8, -2, -14), sinus + Position(-side * 12, -4, -70)], [5.5, 3, 2], Tissue.fluid)
            if side > 0 { painting.add(SolidEllipsoid(center + Position(20, -16, 24), Position(13, 13, 12)), Tissue.fluid) }
        }
    }

    private mutating func paintStomach() {
        let course = smoothCurve([Position(66, 6, -28), Position(72, -22, -56), Position(50, -50, -80), Position(14, -62, -92), Position(-14, -54, -88)], pieces: 5)
        let radii = Profile([(0, 32), (5, 33), (10, 25), (15, 18), (20, 11)])
        func solid(_ shrink: Float) -> Melted<RoundCone> {
            Melted((0..<(course.count - 1)).map { RoundCone(course[$0], course[$0 + 1], radii(Float($0)) - shrink, radii(Float($0 + 1)) - shrink) }, smoothness: 2)
        }
        let limits = Common(Grown(cavity, by: -3), Below(diaphragm: diaphragm, gap: 3))
        painting.add(Common(solid(0), limits), Material(value: 92, grain: 6))
        let lumen = Common(solid(4.2), Grown(limits, by: -4))
        painting.add(lumen, Material(value: 24, grain: 16))
        // The patient lies on the back: gas in front of a level.
        painting.add(Common(lumen, HalfSpace(Position(0, -37, 0), Position(0, 1, 0))), Tissue.air)
    }

    private mutating func paintBowel() {
        // Small bowel: loops along a wandering line.
        var p = Position(20, -30, -128)
        var heading = Position(1, 0, 0)
        var loops: [Position] = []
        for _ in 0..<150 {
            heading = (heading + 0.75 * random.jitter()).unit
            let home = Position(10, -34, -148) - p
            heading = (heading + home * Position(0.011, 0.02, 0.022)).unit
            p += heading * 11
            loops.append(p)
        }
        let limits = Grown(cavity, by: -9)
        let usable = loops.filter { limits.distance(at: $0) < -10 && $0.y < 16 && $0.z < -108 && abs($0.x) < 96 }
        for q in usable { painting.add(SolidEllipsoid(q, Position(12, 11, 11)), Tissue.bowelWall) }
        for (a, b) in zip(usable, usable.dropFirst()) where (a - b).length < 16 { painting.add(RoundCone(a, b, 9, 9), Tissue.chyme) }
        for q in usable where random.unit() < 0.16 { painting.add(SolidEllipsoid(q + Position(0, -5, 0), Position(6, 3.5, 6)), Tissue.air) }
        // Colon with its pouches: both flexures, the transverse part sagging in front.
        let course = smoothCurve([Position(-94, 24, -172), Position(-96, 12, -140), Position(-88, -34, -122), Position(-52, -72, -122), Position(0, -80, -132), Position(48, -74, -116),
                                  Position(84, -46, -92), Position(104, 6, -84), Position(108, 26, -120), Position(106, 28, -172)], pieces: 5)
        for (k, c) in course.enumerated() {
            let r: Float = (k > 36 ? 14.5 : 20) + 3 * sine(Float(k) * 2.2)
            painting.add(SolidEllipsoid(c, Position(repeating: r)), Tissue.bowelWall)
        }
        for (k, c) in course.enumerated() {
            let r: Float = (k > 36 ? 12 : 17.5) + 3 * sine(Float(k) * 2.2)
            painting.add(SolidEllipsoid(c, Position(repeating: r)), k < 12 || k > 34 ? Tissue.faeces : Tissue.chyme)
            painting.add(Common(SolidEllipsoid(c, Position(repeating: r - 0.5)), HalfSpace(Position(0, k < 12 || k > 34 ? c.y - r * 0.55 : min(c.y + r * 0.6, -66), 0), Position(0, 1, 0))), Tissue.air)
        }
    }
}

/// The liver: under the right dome and across the middle, cut off below by a slanting, slightly hollow surface.
struct Liver: Shape {
    let cavity: Contour, diaphragm: Diaphragm
    var bounds: (low: Position, high: Position) { (Position(-135, -100, -135), Position(85, 98, 12)) }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes {
        let wall = smoothLarger(cavity.distance(x, y, z) + 3.4, 0.62 * (z - diaphragm.height(x, y) + 3.4), 9)
        // Lower surface: from the right lobe's tip upwards to the left, higher in front of the spine.
        let u = x + 112
        let lower = -126 + 0.44 * u + 0.0012 * u * u + 0.16 * abs(y + 20) - 0.05 * (y + 20)
        let floor = 0.8 * (lower - z)
        // The left lobe thins out and lies in front; its back follows stomach and spine.
        let dx = x - 4, behind = (y + 6) - (-0.42 * (x + 20))
        let back = smoothSmaller(Lanes(repeating: 0) + 0.8 * behind - 22, 0.7 * (dx + 42), 16)
        let tip = x - 62 + Lanes(repeating: 0.2 * abs(y + 60))
        return smoothLarger(smoothLarger(wall, floor, 14), smoothLarger(back, tip, 10), 12)
    }
}

/// An ellipsoid under the diaphragm, pressed into by a neighbour.
struct Organ: Shape {
    let solid, hollow: SolidEllipsoid, cavity: Contour, diaphragm: Diaphragm
    var bounds: (low: Position, high: Position) { solid.bounds }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes {
        let free = smoothLarger(solid.distance(x, y, z), -hollow.distance(x, y, z), 6)
        return smoothLarger(free, larger(cavity.distance(x, y, z) + 4, 0.62 * (z - diaphragm.height(x, y) + 4)), 6)
    }
}
