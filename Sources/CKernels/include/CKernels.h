#pragma once
#include "instructions.h"
#include "plane.h"
#include "present.h"
#include "rays.h"
