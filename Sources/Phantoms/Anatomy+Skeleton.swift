extension Anatomy {
    mutating func paintSkeleton() {
        var outer: [(any Shape, Material)] = [], inner: [(any Shape, Material)] = []
        func bone(_ p: Position, _ q: Position, _ rp: Float, _ rq: Float, shell: Float = 1.1) {
            outer.append((RoundCone(p, q, rp, rq), Tissue.cortical))
            if min(rp, rq) > shell + 0.7 { inner.append((RoundCone(p, q, rp - shell, rq - shell), Tissue.marrow)) }
        }
        func flat(_ p: Position, _ q: Position, _ rp: Float, _ rq: Float, thin: Position, ratio: Float, shell: Float = 1.1, marrow: Material = Tissue.marrow) {
            outer.append((FlatCone(p, q, rp, rq, thin: thin, ratio: ratio), Tissue.cortical))
            let r = min(rp, rq) / ratio
            if r > shell + 0.5 { inner.append((Grown(FlatCone(p, q, rp, rq, thin: thin, ratio: ratio), by: -shell), marrow)) }
        }

        // Discs first: the end plates are painted over them.
        for (above, below) in zip(Self.vertebrae, Self.vertebrae.dropFirst()) {
            let z = (above.z + below.z) / 2, rx: Float = below.isLumbar ? 21 : 15.5 + 0.02 * (138 - z)
            painting.add(SolidEllipsoid(Position(0, Self.spineY(z), z), Position(rx + 0.5, rx * 0.83, 5.4)), Tissue.disc)
        }
        // The canal: fat, dura, cord.
        var canal: [Position] = []
        for k in 0...16 { let z = 155 - 20.5 * Float(k); canal.append(Position(0, Self.spineY(z) + 21.5, z)) }
        painting.tube(canal, [8.6], Tissue.visceralFat, pieces: 1)
        painting.tube(canal, [7], Tissue.fluid, pieces: 2)
        painting.tube(canal, [4.4, 4.4, 4.6, 4, 2], Tissue.cord, pieces: 2)

        for (index, vertebra) in Self.vertebrae.enumerated() {
            let z = vertebra.z, y = Self.spineY(z), lumbar = vertebra.isLumbar
            let next = index + 1 < Self.vertebrae.count ? Self.vertebrae[index + 1].z : z - 28
            let height = 0.5 * (z - next) - 2.6
            let rx: Float = lumbar ? 21 : 14.5 + 0.02 * (138 - z), ry = rx * 0.8
            let lean = (Self.spineY(z + 8) - Self.spineY(z - 8)) / 16
            outer.append((VertebralBody(center: Position(0, y, z), rx: rx, ry: ry, half: height, lean: lean), Tissue.cortical))
            inner.append((Grown(VertebralBody(center: Position(0, y, z), rx: rx, ry: ry, half: height, lean: lean), by: -1), Tissue.cancellous))
            let back = y + 21.5
            for side: Float in [-1, 1] {
                let pedicle = Position(side * (lumbar ? 13 : 10), y + ry - 2, z + 3), joint = Position(side * (lumbar ? 14 : 11), back + 6, z + 2)
                flat(pedicle, joint, 5.2, 4.6, thin: Position(1, 0, 0), ratio: 1.5)
                flat(joint, Position(side * 1.5, back + 12, z - 5), 7, 7, thin: Position(side * 0.5, 1, 0), ratio: 2.8)
                // Articular processes, and the transverse process that carries the rib.
                flat(joint + Position(side * 1, 1, 7), joint + Position(side * 1, 3, -9), 4.6, 4.2, thin: Position(0, 1, 0), ratio: 1.5)
                let reach: Float = lumbar ? 40 : 33 - 0.09 * (138 - z)
                bone(joint, Position(side * max(20, reach), back + (lumbar ? 2 : 9), z + (lumbar ? 0 : 4)), 4.2, lumbar ? 2.6 : 3.9)
            }
            let tip: Float = lumbar ? 30 : 27, drop: Float = lumbar ? 5 : 16
            flat(Position(0, back + 11, z - 4), Position(0, back + tip, z - drop), lumbar ? 8.5 : 5.5, lumbar ? 8 : 4.6, thin: Position(1, 0, 0), ratio: 2.2)
        }

        let drops: [Float] = [26, 46, 54, 58, 62, 65, 67, 67, 62, 54, 32, 18]
        let ends: [Float] = [2.72, 2.6, 2.5, 2.44, 2.4, 2.36, 2.3, 2.2, 2.08, 1.92, 1.5, 0.98]
        let attachments: [Float] = [106, 82, 64, 47, 32, 19, 9]
        var cartilages: [(any Shape, Material)] = []
        for side: Float in [-1, 1] {
            for rib in 0..<12 {
                let z0 = Self.vertebrae[rib].z + 6, y0 = Self.spineY(z0)
                let steps = 26, end = ends[rib]
                let wobble = random.between(-1, 1)
                func point(_ t: Float) -> Position {
                    let angle = 0.34 + (end - 0.34) * t
                    // Slow descent at the angle of the rib, fast at the side.
                    let fall = drops[rib] * (0.12 * t + 0.88 * t * t * (3 - 2 * t)) * (0.35 + 0.65 * min(1, end / 2.2))
                    return onCage(side: side, angle: angle, z: z0 - fall + wobble * sine(3 * t), outside: 5.2)
                }
                var path = [Position(side * 15, y0 + 13, z0), Position(side * 24, y0 + 25, z0 + 1)]
                for k in 1...steps { path.append(point(Float(k) / Float(steps))) }
                for k in 0..<(path.count - 1) {
                    let p = path[k], q = path[k + 1], along = Float(k) / Float(path.count)
                    let wide: Float = (rib == 0 ? 6.6 : 5.6 + 0.9 * sine(3 * along)) * (rib > 9 ? 0.8 : 1)
                    // First rib lies flat, the others stand on edge.
                    let outward = Position((p.x + q.x) / 2, (p.y + q.y) / 2 - 6, 0).unit
                    let thin = rib == 0 ? Position(outward.x * 0.4, outward.y * 0.4, 1).unit : (outward + Position(0, 0, 0.12)).unit
                    flat(p, q, k < 2 ? 4.4 : wide, k + 1 < 2 ? 4.4 : wide, thin: thin, ratio: k < 3 ? 1.25 : 1.6, shell: 0.9)
                }
                // Cartilage to the sternum; from the eighth on to the one above.
                let last = path[path.count - 1]
                if rib < 10 {
                    let goal: Position
                    if rib < 7 { goal = sternumEdge(side, attachments[rib]) } else { goal = Position(side * Float(26 + 13 * (rib - 7)), last.y - 7 + Float(rib - 7) * 2, Float(-8 - 21 * (rib - 7))) }
                    let middle = (last + goal) / 2 + Position(side * 4, -5, rib < 2 ? 0 : -7)
                    let curve = smoothCurve([last, middle, goal], pieces: 7)
                    for k in 0..<(curve.count - 1) {
                        cartilages.append((FlatCone(curve[k], curve[k + 1], 5.6, 5.6, thin: Position(side * 0.3, -1, 0), ratio: 1.5), Tissue.cartilage))
                        if random.unit() < 0.5 {
                            let p = curve[k] + 3.2 * random.jitter()
                            cartilages.append((SolidEllipsoid(p, Position(random.between(0.8, 2.4), random.between(0.8, 1.6), random.between(0.8, 2.2))), Material(value: 380)))
                        }
                    }
                }
            }
            // Clavicle and shoulder blade.
            let clavicle = smoothCurve([Position(side * 19, -66, 117), Position(side * 52, -68, 128), Position(side * 92, -44, 141), Position(side * 128, -26, 152)], pieces: 6)
            for k in 0..<(clavicle.count - 1) { bone(clavicle[k], clavicle[k + 1], k == 0 ? 8.5 : 6, 6, shell: 1.6) }
            let blade = Position(side * 0.58, 0.8, 0.05).unit
            let top = Position(side * 104, 70, 134), bottom = Position(side * 95, 88, 52)
            flat(top, bottom, 30, 9, thin: blade, ratio: 15)
            flat(Position(side * 74, 92, 136), bottom, 4, 5, thin: blade, ratio: 1.4)
            flat(Position(side * 130, 52, 140), bottom, 7, 6, thin: blade, ratio: 1.6)
            flat(Position(side * 76, 97, 128), Position(side * 138, 66, 152), 7, 11, thin: Position(0, -0.4, 1), ratio: 2.4)
        }
        flat(Position(0, -76, 114), Position(0, -81, 86), 25, 20, thin: Position(0, -1, -0.15), ratio: 3.8)
        flat(Position(0, -81, 82), Position(0, -92, 8), 15, 18, thin: Position(0, -1, -0.15), ratio: 3)
        flat(Position(0, -92, 4), Position(0, -90, -18), 8, 5, thin: Position(0, -1, 0), ratio: 2.4)

        for (shape, material) in cartilages { add(shape, material) }
        for (shape, material) in outer { add(shape, material) }
        for (shape, material) in inner { add(shape, material) }
    }

    /// Opens the existential, so that each shape keeps its own compiled loop.
    private mutating func add(_ shape: any Shape, _ material: Material) {
        func open(_ s: some Shape) { painting.add(s, material) }
        open(shape)
    }

    private func sternumEdge(_ side: Float, _ z: Float) -> Position {
        z > 84 ? Position(side * 22, -78, z) : Position(side * 15, -81 - (82 - z) * 0.145, z)
    }
}

/// A drum with a waist, hollowed at the back for the canal; leans with the spine.
struct VertebralBody: Shape {
    let center: Position, rx, ry, half, lean: Float
    var bounds: (low: Position, high: Position) { (center - Position(rx + 1, ry + 4, half + 1), center + Position(rx + 1, ry + 4, half + 1)) }
    @inline(__always) func distance(_ x: Lanes, _ y: Float, _ z: Float) -> Lanes {
        let h = (z - center.z) / half
        let waist = 0.9 + 0.1 * h * h
        let dx = x - center.x, dy = y - center.y - lean * (z - center.z)
        let q = root(dx * dx / (rx * rx) + dy * dy / (ry * ry))
        let side = (q - waist) * ry
        let hollow = 8.5 - root(dx * dx + (dy - 21) * (dy - 21))
        return smoothLarger(larger(side, hollow), Lanes(repeating: abs(z - center.z) - half), 2)
    }
}
