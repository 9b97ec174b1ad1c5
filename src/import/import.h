/* import.h: the door of import/. plm_import (plm.h, section 9) is all of it. */
#ifndef IMPORT_IMPORT_H
#define IMPORT_IMPORT_H
#include "plm.h"
#endif
