/// The trunk from the lung apices to the kidneys, in millimetres: x to the left, y to the back, z to the head, the origin in the
/// middle of the chest's base. Sizes are those of a slim adult, the abdomen a little compressed so that 300 mm show kidneys
/// and lung apices together. Contrast as some 35 s after injection: aorta and heart bright, liver and spleen enhancing.
struct Anatomy {
    var painting = Painting()
    var random: SeededRandom

    let body: Contour
    /// Inner surface of the rib cage and, below it, of the abdominal wall.
    let cavity: Contour
    let diaphragm = Diaphragm()
    /// Courses of trachea and bronchi down to the lobes; cut out last.
    var airwayStems: [[Position]] = []

    static let vertebrae: [(z: Float, isLumbar: Bool)] =
        [138, 120.5, 102.5, 84, 65, 45.5, 25.5, 5, -16, -38, -61, -85].map { ($0, false) } + [(-111, true), (-138.5, true), (-167, true)]
    /// Middle of the vertebral bodies: kyphosis of the chest, lordosis of the loins.
    static let spineY = Profile([(-170, 36), (-130, 38), (-80, 44), (-20, 53), (40, 60), (90, 58), (150, 46)])

    enum Tissue {
        static let skin = Material(value: 30, grain: 4)
        static let fat = Material(value: -104, grain: 7, strand: 42)
        static let visceralFat = Material(value: -98, grain: 7, strand: 45)
        static let muscle = Material(value: 58, grain: 9, strand: -70)
        static let smoothMuscle = Material(value: 62, grain: 6)
        static let lung = Material(value: -868, perPosterior: 0.42, grain: 13)
        static let airway = Material(value: -985)
        static let air = Material(value: -990)
        static let wall = Material(value: 20, grain: 5)
        static let cortical = Material(value: 860, grain: 60)
        static let marrow = Material(value: 235, grain: 45)
        static let cancellous = Material(value: 205, grain: 40)
        static let cartilage = Material(value: 96, grain: 22)
        static let disc = Material(value: 88, grain: 8)
        static let fluid = Material(value: 8, grain: 2)
        static let cord = Material(value: 42, grain: 3)
        static let aorta = Material(value: 345, grain: 3)
        static let leftHeart = Material(value: 335, grain: 4)
        static let rightHeart = Material(value: 215, grain: 9)
        static let lungArtery = Material(value: 250, grain: 4)
        static let lungVein = Material(value: 310, grain: 3)
        static let vein = Material(value: 150, grain: 8)
        static let cavalInflow = Material(value: 380, grain: 40)
        static let myocardium = Material(value: 112, grain: 7)
        static let liver = Material(value: 104, grain: 7)
        static let portal = Material(value: 162, grain: 4)
        static let hepaticVein = Material(value: 138, grain: 4)
        static let spleen = Material(value: 124, grain: 8)
        static let gland = Material(value: 98, grain: 12, strand: -60)
        static let cortex = Material(value: 196, grain: 8)
        static let medulla = Material(value: 118, grain: 6)
        static let bowelWall = Material(value: 78, grain: 6)
        static let chyme = Material(value: 28, grain: 14)
        static let faeces = Material(value: 25, grain: 150)
        static let calcium = Material(value: 850)
    }

    init(seed: UInt64) {
        random = SeededRandom(seed)
        let cavityAxis = Profile([(-160, 2), (-60, 0), (20, 1), (60, 5), (100, 13), (130, 24)])
        let halfWidth = Profile([(-155, 118), (-100, 126), (-60, 132), (-20, 134), (20, 131), (60, 124), (100, 107), (118, 90), (130, 68), (139, 38), (145, 4)])
        let halfDepth = Profile([(-155, 82), (-100, 88), (-60, 92), (-20, 94), (20, 93), (60, 87), (100, 72), (118, 61), (130, 47), (139, 27), (145, 4)])
        func superellipse(_ angle: Float, _ a: Float, _ b: Float, _ n: Float) -> Float {
            power(power(abs(sine(angle)) / a, n) + power(abs(cosine(angle)) / b, n), -1 / n)
        }
        cavity = Contour(z: -175...146, levels: 130, axis: { cavityAxis($0) }) { angle, z in
            superellipse(angle, halfWidth(z), halfDepth(z), 2.35)
                // Gutters beside the spine bulge backwards, the spine itself inwards; the front is a little flat.
                + 5 * bell(angle, 0.55, 0.3) * (z > -60 ? 1 : 0.5) - 3 * bell(angle, .pi, 0.5) - 19 * bell(angle, 0, 0.26)
        }
        let outerAxis = Profile([(-160, 3), (0, 4), (60, 6), (110, 12), (150, 16)])
        let outerWidth = Profile([(-170, 147), (-110, 149), (-50, 153), (0, 157), (50, 160), (100, 165), (150, 168)])
        let outerDepth = Profile([(-170, 106), (-110, 108), (-50, 112), (0, 115), (50, 113), (90, 107), (120, 98), (150, 86)])
        body = Contour(z: -200...200, levels: 100, axis: { outerAxis($0) }) { angle, z in
            superellipse(angle, outerWidth(z), outerDepth(z), 2.5)
                - 5 * bell(angle, 0, 0.16) + 9 * bell(angle, 2.55, 0.3) * bell(z, 34, 34) - 2 * bell(angle, .pi, 0.25)
        }
    }

    /// A point inside the trunk by the angle from the back (0) over the side to the front (π) and the distance from the cavity's wall.
    func onCage(side: Float, angle: Float, z: Float, outside: Float) -> Position {
        // Ray march on the tabled contour: its own radius, read at the diamond angle.
        let diamond: Float = angle <= .pi / 2 ? sine(angle) / (sine(angle) + cosine(angle)) : 2 - sine(angle) / (sine(angle) - cosine(angle))
        let u = max(0, min(Float(cavity.levels) - 1.001, (z - cavity.low) / cavity.step)), level = Int(u), t = u - Float(level)
        let at = diamond * Float(Contour.angles) / 2, i = Int(at), f = at - Float(i), row = level * (Contour.angles + 2)
        func lerp(_ a: Float, _ b: Float, _ t: Float) -> Float { a + t * (b - a) }
        let r = lerp(lerp(cavity.radii[row + i], cavity.radii[row + i + 1], f),
                     lerp(cavity.radii[row + Contour.angles + 2 + i], cavity.radii[row + Contour.angles + 3 + i], f), t) + outside
        return Position(side * r * sine(angle), lerp(cavity.axis[level], cavity.axis[level + 1], t) + r * cosine(angle), z)
    }

    /// The whole patient, from the skin inwards.
    static func painting(seed: UInt64) -> Painting {
        var a = Anatomy(seed: seed)
        a.paintTable()
        a.paintWall()
        a.paintAbdomen()
        a.paintLungs()
        a.paintMediastinum()
        a.paintSkeleton()
        return a.painting
    }

    // MARK: Wall

    private mutating func paintTable() {
        // A carbon shell filled with foam, hollow towards the patient, with a thin mat.
        let centre = Position(0, -352, 0)
        struct Trough: Shape {
            let center: Position, inner, outer: Float
            var bounds: (low: Position, high: Position) { (Position(-205, 90, -1000), Position(205, center.y + outer, 1000)) }
            func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes {
                let dx = x - center.x, dy = y - center.y
                let r = root(dx * dx + dy * dy)
                return larger(larger(r - outer, inner - r), magnitude(x) - 200)
            }
        }
        painting.add(Trough(center: centre, inner: 474, outer: 482), Material(value: -905, grain: 6))
        painting.add(Trough(center: centre, inner: 482, outer: 512), Material(value: -150, grain: 4))
        painting.add(Trough(center: centre, inner: 484.5, outer: 509.5), Material(value: -958, grain: 3))
    }

    private mutating func paintWall() {
        painting.add(body, Tissue.skin)
        painting.add(Grown(body, by: -1.9), Tissue.fat)
        // Fat is thin over the ribs and the back, thicker over flanks and belly.
        let bodyTable = body
        func layer(_ depth: (_ angle: Float, _ z: Float) -> Float) -> Contour {
            Contour(z: -200...200, levels: 100, axis: { z in
                let u = max(0, min(Float(bodyTable.levels) - 1.001, (z - bodyTable.low) / bodyTable.step)), l = Int(u)
                return bodyTable.axis[l] + (u - Float(l)) * (bodyTable.axis[l + 1] - bodyTable.axis[l])
            }, radius: { angle, z in
                let u = max(0, min(Float(bodyTable.levels) - 1.001, (z - bodyTable.low) / bodyTable.step)), l = Int(u), t = u - Float(l)
                let diamond: Float = angle <= .pi / 2 ? sine(angle) / (sine(angle) + cosine(angle)) : 2 - sine(angle) / (sine(angle) - cosine(angle))
                let at = diamond * Float(Contour.angles) / 2, i = Int(at), f = at - Float(i)
                func r(_ l: Int) -> Float { let k = l * (Contour.angles + 2) + i; return bodyTable.radii[k] + f * (bodyTable.radii[k + 1] - bodyTable.radii[k]) }
                return r(l) + t * (r(l + 1) - r(l)) - depth(angle, z)
            })
        }
        let flank = Profile([(-160, 1), (-60, 0.75), (20, 0.25), (160, 0.1)])
        let breast = layer { angle, z in
            8.5 + 4 * flank(z) + 7 * flank(z) * bell(angle, 1.7, 0.8) + 8 * flank(z) * bell(angle, .pi, 0.7)
                + 10 * bell(angle, 2.55, 0.28) * bell(z, 34, 32) - 3 * bell(angle, 0, 0.4)
        }
        painting.add(breast, Tissue.muscle)
        // Axillary fat with its vessels, and the plane between shoulder girdle and rib cage.
        for side: Float in [-1, 1] {
            painting.add(SolidEllipsoid(Position(side * 131, -8, 112), Position(17, 24, 42)), Tissue.visceralFat)
            painting.add(SolidEllipsoid(Position(side * 128, 30, 70), Position(8, 26, 50)), Tissue.visceralFat)
            painting.tube([Position(side * 60, -24, 139), Position(side * 100, -16, 138), Position(side * 126, -14, 118), Position(side * 150, -12, 150)], [5, 4.5, 4, 4], side > 0 ? Tissue.vein : Tissue.cavalInflow)
            painting.tube([Position(side * 62, -10, 143), Position(side * 100, -4, 141), Position(side * 130, -4, 124), Position(side * 152, -2, 150)], [4.5, 4, 3.5, 3.5], Tissue.aorta)
            // Pectoral muscles, fat beneath.
            painting.add(FlatCone(Position(side * 40, -96, 60), Position(side * 118, -62, 118), 26, 20, thin: Position(side * 0.35, -1, 0.1), ratio: 3.4), Tissue.muscle)
            for _ in 0..<7 {
                let p = Position(side * random.between(122, 140), random.between(-20, 25), random.between(85, 135))
                painting.add(SolidEllipsoid(p, Position(random.between(2, 4), random.between(2.5, 5), random.between(3, 5))), Material(value: 70, grain: 6))
            }
        }
        // The abdominal wall's inner border and everything inside, still empty: fat.
        painting.add(Common(Grown(cavity, by: 1), Below(diaphragm: diaphragm, gap: -2.6)), Tissue.smoothMuscle)
        painting.add(Common(Grown(cavity, by: -0.5), Below(diaphragm: diaphragm, gap: 0)), Tissue.visceralFat)
        // Muscles of the back, held by fascia.
        for side: Float in [-1, 1] {
            painting.tube([Position(side * 24, 88, 150), Position(side * 24, 92, 40), Position(side * 27, 80, -60), Position(side * 32, 74, -170)], [13, 14, 19, 24], Tissue.fat)
            painting.tube([Position(side * 22, 87, 150), Position(side * 22, 91, 40), Position(side * 25, 79, -60), Position(side * 30, 73, -170)], [11.5, 12.5, 18, 23], Tissue.muscle)
            painting.tube([Position(side * 18, 30, -92), Position(side * 30, 36, -125), Position(side * 42, 36, -175)], [7, 14, 20], Tissue.muscle)
            painting.tube([Position(side * 56, 58, -108), Position(side * 58, 60, -170)], [14, 18], Tissue.muscle)
            painting.tube([Position(side * 9, 24, -50), Position(side * 9, 22, -85), Position(side * 11, 22, -128)], [5, 5, 3], Tissue.smoothMuscle)
        }
    }
}

/// The dome between chest and abdomen, as a height over x and y: right higher than left, steep at the rim.
struct Diaphragm: Sendable {
    @inline(__always) func height(_ x: Lanes, _ y: Float) -> Lanes {
        // Where we are between the middle (0) and the wall (1): the rim hangs on the ribs, lowest at the back.
        let u = x / 134, v = y / 94
        let q = smaller(u * u + v * v, Lanes(repeating: 1.3))
        let fall = (0.85 + 0.32 * v) * (10 * q + 64 * q * q * q)
        // Two domes and the tendon under the heart between them.
        let r = (x + 64) / 62, l = (x - 68) / 56
        let right = 1 / (1 + r * r), left = 1 / (1 + l * l)
        return -12 + 19 * right * right + 8 * left * left - fall
    }
}

/// Points at least `gap` mm under the diaphragm.
struct Below: Shape {
    let diaphragm: Diaphragm, gap: Float
    var bounds: (low: Position, high: Position) { (Position(-400, -400, -400), Position(400, 400, 20 - gap)) }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes {
        // The dome is steep at its rim: vertical distance overstates.
        0.62 * (z - diaphragm.height(x, y) + gap)
    }
}
