extension Anatomy {
    /// The solids that the lungs make way for, melted together: heart, great vessels, spine.
    private var mediastinum: Melted<RoundCone> {
        var members = [
            // Heart in its fat.
            RoundCone(Position(8, -18, 40), Position(52, -48, 12), 43, 31),
            RoundCone(Position(-26, -22, 46), Position(-16, -26, 14), 29, 28),
            RoundCone(Position(0, -52, 4), Position(40, -60, 4), 26, 22),
            // Vessels and airway above.
            RoundCone(Position(-8, -18, 64), Position(-6, -10, 100), 31, 27),
            RoundCone(Position(14, 4, 64), Position(10, 4, 105), 29, 25),
            RoundCone(Position(0, -2, 108), Position(0, 4, 150), 28, 27),
            // Descending aorta, oesophagus, inferior vena cava.
            RoundCone(Position(20, 38, 108), Position(20, 40, -30), 15.5, 16),
            RoundCone(Position(8, 26, 100), Position(10, 16, -20), 13, 16),
            RoundCone(Position(-20, 6, 20), Position(-22, 8, -10), 15, 15),
            // Where the pleurae meet before the heart.
            RoundCone(Position(1, -74, 100), Position(3, -86, 20), 5, 8),
            RoundCone(Position(1, -50, 96), Position(2, -56, 60), 9, 14),
        ]
        for (above, below) in zip(Self.vertebrae.prefix(12), Self.vertebrae.dropFirst()) {
            members.append(RoundCone(Position(0, Self.spineY(above.z) + 3, above.z), Position(0, Self.spineY(below.z) + 3, below.z), 18.5, 19))
        }
        return Melted(members, smoothness: 11)
    }

    mutating func paintLungs() {
        let core = mediastinum
        let lungs = Lungs(cavity: cavity, diaphragm: diaphragm, mediastinum: core)
        painting.add(Grown(Common(cavity, Above(diaphragm: diaphragm)), by: 0.3), Tissue.wall)
        // Mediastinal fat fills what the lungs leave.
        painting.add(Common(Grown(core, by: -1.2), Above(diaphragm: diaphragm)), Tissue.visceralFat)
        painting.add(Common(Common(Grown(cavity, by: -1.5), Above(diaphragm: diaphragm)), HalfSpace(Position(0, 0, 141), Position(0, 0, -1))), Tissue.visceralFat)
        painting.add(lungs, Tissue.lung)

        // Trees. Leaves are spread through each lobe, then joined (Kitaoka, Takaki, Suki 1999: a branch heads for the middle of
        // what it supplies and splits it across its widest extent).
        let lobes = lobeSamples(lungs)
        let carina = Position(1, 16, 90)
        let right = Position(-33, 18, 66), left = Position(35, 20, 64)
        let lobeRoots: [(airway: Position, artery: Position, vein: Position)] = [
            (Position(-46, 16, 76), Position(-44, 8, 78), Position(-34, 2, 66)),      // right upper
            (Position(-50, 0, 48), Position(-50, 4, 54), Position(-34, 2, 54)),       // right middle
            (Position(-48, 30, 40), Position(-52, 24, 50), Position(-32, 14, 40)),    // right lower
            (Position(50, 10, 72), Position(50, 10, 84), Position(38, 0, 66)),        // left upper
            (Position(50, 34, 44), Position(54, 34, 58), Position(38, 16, 42)),       // left lower
        ]
        var arteries: [Branch] = [], veins: [Branch] = [], airways: [Branch] = []
        for (lobe, root) in lobeRoots.enumerated() {
            let isRight = lobe < 3
            let points = lobes[lobe]
            let share = Float(points.count) / 330
            grow(from: root.airway, heading: root.airway - (isRight ? right : left), points: Array(points.prefix(points.count / 3)), radius: 4.4 * power(share, 0.4), exponent: 0.36, into: &airways)
            grow(from: root.artery, heading: root.artery - Position(0, 0, 70), points: points, radius: 6.4 * power(share, 0.4), exponent: 0.385, into: &arteries)
            let shifted = points.map { $0 + 5 * random.jitter() }
            grow(from: root.vein, heading: root.vein - Position(4, 6, 52), points: shifted, radius: 5.8 * power(share, 0.4), exponent: 0.385, into: &veins)
        }
        let inLung: ClosedRange<Float> = -1000 ... -200
        for b in airways where b.radius > 0.9 { painting.add(RoundCone(b.p, b.q, b.radius + 0.45 + 0.12 * b.radius, b.endRadius + 0.45 + 0.12 * b.endRadius), Tissue.wall, over: inLung) }
        for b in veins { painting.add(RoundCone(b.p, b.q, b.radius, b.endRadius), Tissue.lungVein) }
        for b in arteries { painting.add(RoundCone(b.p, b.q, b.radius, b.endRadius), Tissue.lungArtery) }
        for b in airways where b.radius > 0.6 { painting.add(RoundCone(b.p, b.q, b.radius, b.endRadius), Tissue.airway) }
        // Fissures: two layers of pleura, thinner than a voxel.
        for sheet in [Fissure.rightOblique, .rightHorizontal, .leftOblique] {
            painting.add(Common(sheet, Grown(lungs, by: -0.5)), Material(value: -640), over: -1000 ... -760)
        }
        // Hilar stems, outside the lungs.
        for root in lobeRoots.prefix(3) {
            painting.tube([Position(-28, 4, 72), (Position(-28, 4, 72) + root.artery) / 2 + Position(-3, 0, 0), root.artery], [7.5, 6.6], Tissue.lungArtery)
            painting.tube([Position(-14, 12, 50), root.vein], [6.5, 6], Tissue.lungVein)
        }
        for root in lobeRoots.suffix(2) {
            painting.tube([Position(40, 14, 82), root.artery], [7.5, 6.6], Tissue.lungArtery)
            painting.tube([Position(28, 10, 52), root.vein], [6.5, 6], Tissue.lungVein)
        }
        airwayStems = [[Position(1, 4, 152), Position(1, 8, 125), carina], [carina, right], [carina, (carina + left) / 2 + Position(0, -1, 1), left]]
            + lobeRoots.enumerated().map { [$0 < 3 ? right : left, $1.airway] }
    }

    mutating func paintMediastinum() {
        paintHeart()
        // Pulmonary trunk and its two arteries.
        painting.tube([Position(16, -50, 52), Position(17, -44, 66), Position(18, -28, 78), Position(16, -14, 80)], [13, 13.5, 12.5], Tissue.lungArtery)
        painting.tube([Position(17, -18, 79), Position(0, -8, 75), Position(-28, 4, 72)], [10, 9.5, 8], Tissue.lungArtery)
        painting.tube([Position(18, -20, 79), Position(30, -2, 84), Position(40, 14, 82)], [10, 9.5, 8], Tissue.lungArtery)
        // Superior vena cava and the veins that make it; azygos.
        painting.tube([Position(-34, -24, 30), Position(-31, -20, 60), Position(-27, -20, 100), Position(-26, -22, 112)], [10, 9.5, 8.5, 8], Tissue.cavalInflow)
        painting.tube([Position(-26, -22, 112), Position(-36, -24, 130), Position(-60, -24, 139)], [7.5, 6.5, 5.5], Tissue.cavalInflow)
        painting.tube([Position(-26, -22, 111), Position(0, -38, 120), Position(34, -30, 136), Position(60, -24, 139)], [7, 6.5, 6, 5.5], Tissue.vein)
        painting.tube([Position(-28, -14, 92), Position(-22, 12, 94), Position(-9, 37, 84), Position(-8, 40, 20), Position(-8, 34, -60)], [4, 3.6, 3.2, 2.6], Tissue.vein)
        painting.tube([Position(-21, 2, -50), Position(-21, 4, -8), Position(-24, -4, 14)], [12, 12, 12], Tissue.vein)
        // Aorta: root, arch, and down the spine to the end of the field.
        let aorta = [Position(2, -26, 48), Position(-8, -32, 66), Position(-13, -34, 88), Position(-7, -25, 110), Position(6, -5, 118.5), Position(17, 18, 112),
                     Position(22, 32, 94), Position(22, 37, 60), Position(20, 37, 10), Position(15, 31, -40), Position(7, 21, -80), Position(5, 14, -120), Position(5, 12, -175)]
        painting.tube(aorta, [14.5, 15.5, 15, 14, 13.2, 12.8, 12.2, 11.6, 11.2, 10.8, 10.2, 9.6, 9.2].map { $0 + 1.3 }, Material(value: 70, grain: 3))
        painting.tube(aorta, [14.5, 15.5, 15, 14, 13.2, 12.8, 12.2, 11.6, 11.2, 10.8, 10.2, 9.6, 9.2], Tissue.aorta)
        painting.tube([Position(-8, -27, 110), Position(-17, -20, 128), Position(-24, -16, 155)], [6.4, 5.8, 5], Tissue.aorta)
        painting.tube([Position(-17, -20, 132), Position(-36, -14, 142), Position(-62, -10, 143)], [4.6, 4.6, 4.5], Tissue.aorta)
        painting.tube([Position(1, -14, 117), Position(6, -10, 135), Position(14, -10, 160)], [4, 3.6, 3.4], Tissue.aorta)
        painting.tube([Position(11, 4, 117), Position(20, 6, 132), Position(36, -4, 146), Position(62, -10, 143)], [5, 4.8, 4.6, 4.5], Tissue.aorta)
        // Intercostal arteries.
        for (v, vertebra) in Self.vertebrae.enumerated() where v > 2 && v < 12 {
            for side: Float in [-1, 1] {
                let z = vertebra.z - 4, y = Self.spineY(z)
                painting.tube([Position(19, 46, z), Position(side * 20, y + 2, z + 1), Position(side * 26, y + 26, z)], [1.2, 1.1, 0.9], Tissue.aorta, pieces: 3)
            }
        }
        // Calcified plaque in the arch and below.
        for _ in 0..<26 {
            let u = random.between(3, 11.9), k = Int(u), p = aorta[k] + (u - Float(k)) * (aorta[k + 1] - aorta[k])
            let out = random.jitter().unit * Position(1, 1, 0.2)
            painting.add(SolidEllipsoid(p + out.unit * random.between(11, 13.4), Position(random.between(0.8, 2.2), random.between(0.8, 2.0), random.between(1, 3.5))), Tissue.calcium, over: 0...400)
        }
        // Oesophagus, thymic remnant, nodes, thyroid.
        painting.tube([Position(4, 22, 152), Position(7, 27, 110), Position(9, 28, 70), Position(9, 24, 20), Position(16, 10, -20), Position(26, -2, -36)], [7.5, 7.5, 8, 8, 8.5], Tissue.smoothMuscle)
        painting.tube([Position(4, 21, 152), Position(7, 26, 110), Position(9, 27, 70)], [2.4, 1.6, 0.8], Tissue.air)
        for side: Float in [-1, 1] { painting.add(SolidEllipsoid(Position(side * 16, -4, 149), Position(8, 11, 14)), Material(value: 170, grain: 10)) }
        for (p, r) in [(Position(-14, -6, 96), 4.2), (Position(-12, 4, 84), 5), (Position(26, -16, 98), 4), (Position(4, 6, 74), 5.2), (Position(-2, -48, 100), 3)] as [(Position, Float)] {
            painting.add(SolidEllipsoid(p, Position(r, r * 0.7, r * 1.2)), Material(value: 75, grain: 5), over: -150 ... -20)
        }
        // Airway last: its lumen is cut through everything.
        for stem in airwayStems {
            let isTrachea = stem[0].z > 140, r: Float = isTrachea ? 8.4 : stem[0] == airwayStems[0].last ? 6.6 : 4.9
            painting.tube(stem, [r + 1.5], Material(value: 55, grain: 8))
        }
        for stem in airwayStems {
            let isTrachea = stem[0].z > 140, isMain = stem[0] == airwayStems[0].last
            painting.tube(stem, isTrachea ? [8.4] : isMain ? [6.8, 6] : [4.9, 4.4], Tissue.airway)
        }
    }

    private mutating func paintHeart() {
        let apexward = Position(56, -38, -38).unit
        func along(_ base: Position, _ d: Float, _ s: Position = .zero) -> Position { base + d * apexward + s }
        let base = Position(14, -14, 44)
        // Myocardium of both ventricles, atria, then the blood in them.
        let leftVentricle = SolidEllipsoid(along(base, 27, Position(8, 0, -2)), long: apexward, up: Position(0, 0.3, 1), Position(47, 31, 32))
        let rightVentricle = SolidEllipsoid(Position(13, -48, 20), long: Position(58, -16, -30), up: Position(0, 0, 1), Position(44, 27, 34))
        painting.add(rightVentricle, Tissue.myocardium)
        painting.add(Grown(rightVentricle, by: -3.6), Tissue.rightHeart)
        painting.tube([Position(6, -48, 30), Position(14, -52, 46), Position(16, -50, 58)], [17, 15, 13], Tissue.rightHeart)
        painting.add(SolidEllipsoid(Position(-28, -24, 34), Position(22, 25, 31)), Tissue.myocardium)
        painting.add(SolidEllipsoid(Position(-28, -24, 34), Position(20, 23, 29)), Tissue.rightHeart)
        painting.add(SolidEllipsoid(Position(-18, -46, 52), Position(13, 10, 14)), Tissue.rightHeart)
        painting.add(leftVentricle, Tissue.myocardium)
        let cavity = SolidEllipsoid(along(base, 24, Position(8, 0, -2)), long: apexward, up: Position(0, 0.3, 1), Position(38, 20, 21))
        painting.add(cavity, Tissue.leftHeart)
        // Papillary muscles and trabeculae.
        for (d, s) in [(20, Position(6, 12, -8)), (22, Position(10, -8, 12))] as [(Float, Position)] {
            painting.add(RoundCone(along(base, d + 4, Position(8, 0, -2) + s), along(base, d + 24, Position(8, 0, -2) + s * 0.95), 3.4, 4.6), Tissue.myocardium)
        }
        for _ in 0..<26 {
            let out = random.jitter().unit, p = along(base, random.between(22, 48), Position(8, 0, -2)) + 17 * (out - apexward * out.dot(apexward)).unit
            painting.add(RoundCone(p, p + 9 * apexward, 1.6, 1.6), Tissue.myocardium, over: 250...400)
            let q = Position(13, -48, 20) + Position(random.between(-8, 34), random.between(-18, 2), random.between(-20, 10))
            painting.add(RoundCone(q, q + random.jitter() * 9, 1.5, 1.4), Tissue.myocardium, over: 150...240)
        }
        painting.add(SolidEllipsoid(Position(8, 10, 50), Position(31, 18, 23)), Tissue.myocardium)
        painting.add(SolidEllipsoid(Position(8, 10, 50), Position(29.4, 16.4, 21.4)), Tissue.leftHeart)
        painting.tube([Position(30, -8, 56), Position(40, -22, 60), Position(42, -34, 58)], [9, 7, 4], Tissue.leftHeart)
        painting.add(RoundCone(Position(12, -2, 46), Position(24, -12, 36), 13, 12), Tissue.leftHeart)
        painting.add(RoundCone(Position(2, -26, 48), Position(14, -26, 36), 12, 10), Tissue.leftHeart)
        // Coronary arteries lie on the muscle: points are drawn onto its surface.
        let muscle = Melted([leftVentricle, rightVentricle], smoothness: 6)
        func onSurface(_ p: Position, _ lift: Float) -> Position {
            var p = p
            for _ in 0..<6 {
                let d = muscle.distance(at: p) - lift, e: Float = 0.5
                let g = Position(muscle.distance(at: p + Position(e, 0, 0)) - muscle.distance(at: p - Position(e, 0, 0)),
                                 muscle.distance(at: p + Position(0, e, 0)) - muscle.distance(at: p - Position(0, e, 0)),
                                 muscle.distance(at: p + Position(0, 0, e)) - muscle.distance(at: p - Position(0, 0, e)))
                p -= g.unit * d
            }
            return p
        }
        let courses: [([Position], Float)] = [
            ([Position(16, -34, 58), Position(34, -48, 52), Position(46, -58, 38), Position(58, -64, 22), Position(72, -64, 4), Position(76, -56, -8)], 2.1),
            ([Position(28, -44, 54), Position(54, -34, 46), Position(66, -24, 30), Position(62, -10, 12), Position(48, -2, 2)], 1.8),
            ([Position(-6, -40, 52), Position(-16, -52, 40), Position(-22, -54, 20), Position(-14, -42, -4), Position(8, -20, -12), Position(30, -12, -10)], 1.9),
            ([Position(46, -58, 38), Position(62, -50, 34), Position(74, -44, 18), Position(80, -46, 4)], 1.3),
            ([Position(-22, -54, 20), Position(-2, -68, 8), Position(26, -72, 0)], 1.2),
        ]
        for (course, radius) in courses {
            let points = smoothCurve(course, pieces: 4).enumerated().map { $0 == 0 ? $1 : onSurface($1, radius + 0.8) }
            painting.tube(points, [radius, radius * 0.6], Tissue.aorta, pieces: 2)
            for p in points.prefix(7) where random.unit() < 0.25 { painting.add(SolidEllipsoid(p + Position(0, 0, radius * 0.7), Position(1.6, 1.2, 1.2)), Tissue.calcium) }
        }
    }

    private mutating func lobeSamples(_ lungs: Lungs) -> [[Position]] {
        var lobes = [[Position]](repeating: [], count: 5)
        var placed = 0
        while placed < 2300 {
            let p = Position(random.between(-136, 136), random.between(-92, 94), random.between(-78, 142))
            guard lungs.distance(at: p) < -2.5 else { continue }
            placed += 1
            if p.x < 0 {
                if p.z < Fissure.rightOblique.height(p.x, p.y) { lobes[2].append(p) } else { lobes[p.z < Fissure.rightHorizontal.height(p.x, p.y) ? 1 : 0].append(p) }
            } else {
                lobes[p.z < Fissure.leftOblique.height(p.x, p.y) ? 4 : 3].append(p)
            }
        }
        return lobes
    }
}

/// Points above the diaphragm.
struct Above: Shape {
    let diaphragm: Diaphragm
    var bounds: (low: Position, high: Position) { (Position(-400, -400, -120), Position(400, 400, 400)) }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes { 0.62 * (diaphragm.height(x, y) - z) }
}

/// Both lungs: the chest's cavity above the diaphragm, less the mediastinum.
struct Lungs: Shape {
    let cavity: Contour, diaphragm: Diaphragm, mediastinum: Melted<RoundCone>
    var bounds: (low: Position, high: Position) { (pointwiseMax(cavity.bounds.low, Position(-400, -400, -85)), cavity.bounds.high) }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes {
        let wall = smoothLarger(cavity.distance(x, y, z) + 1.6, 0.62 * (diaphragm.height(x, y) - z), 3)
        return smoothLarger(wall, -mediastinum.distance(x, y, z), 4)
    }
}

/// A sheet between two lobes: a slanted plane, slightly curved.
struct Fissure: Shape {
    let level, slope, sideways, bend: Float
    let minX, maxX, maxY: Float
    static let rightOblique = Fissure(level: 34, slope: 0.62, sideways: 0.12, bend: 9, minX: -140, maxX: 0, maxY: 100)
    static let leftOblique = Fissure(level: 42, slope: 0.68, sideways: -0.10, bend: 8, minX: 0, maxX: 140, maxY: 100)
    static let rightHorizontal = Fissure(level: 44, slope: 0.05, sideways: 0.05, bend: 7, minX: -140, maxX: 0, maxY: 14)
    var bounds: (low: Position, high: Position) { (Position(minX, -100, -90), Position(maxX, maxY, 150)) }
    func height(_ x: Float, _ y: Float) -> Float { level + slope * y + sideways * x + bend * sine(0.035 * x + 0.03 * y) }
    func faintness(softness: Float) -> Float { Phantoms.faintness(thickness: 0.7, directions: 1, softness: softness) }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes {
        let phase = 0.035 * x + 0.03 * y
        // sine, to third order, is plenty within half a turn.
        let s = phase - phase * phase * phase / 6
        let h = level + slope * y + sideways * x + bend * s
        // The horizontal fissure ends at the oblique one.
        let limit = maxY < 50 ? (z - 2) * -1 + (Fissure.rightOblique.level + Fissure.rightOblique.slope * y) + 0.12 * x : Lanes(repeating: -1)
        return larger(magnitude(z - h) * 0.84 - 0.35, limit)
    }
}
